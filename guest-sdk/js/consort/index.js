/*
 * Write Consort plugins in JavaScript or TypeScript; index.d.ts documents what is here.
 *
 * The contract's 64-bit integers are numbers here, as the bindings have it. They are exact up to
 * 2^53, for group time in microseconds until the year 2255; counters beyond that are rounded.
 */

import * as hostClock from "consort:plugin/clock@0.1.0";
import * as hostConfig from "consort:plugin/config@0.1.0";
import * as hostCounters from "consort:plugin/counters@0.1.0";
import * as hostDevice from "consort:plugin/device-state@0.1.0";
import * as hostGroup from "consort:plugin/group@0.1.0";
import * as hostLeader from "consort:plugin/leader-state@0.1.0";
import * as hostLocal from "consort:plugin/local@0.1.0";
import * as hostLog from "consort:plugin/log@0.1.0";
import * as hostMessages from "consort:plugin/messages@0.1.0";
import * as hostShared from "consort:plugin/shared-state@0.1.0";

import { generator } from "./random.js";

export * as payload from "./payload.js";

/* ---- Errors. ---- */

class HostError extends Error {
  constructor(cause) {
    const limit = cause.val === undefined ? undefined : Number(cause.val);
    super(limit === undefined ? cause.tag : `${cause.tag} ${limit}`);
    this.name = new.target.name;
    this.reason = cause.tag;
    this.limit = limit;
  }
}

export class SendError extends HostError {}
export class WriteError extends HostError {}

/** Calls the host; what it refuses is thrown as a `Kind`. */
function call(Kind, operation, ...values) {
  try {
    return operation(...values);
  } catch (error) {
    const cause = error?.payload ?? error;
    throw typeof cause?.tag === "string" ? new Kind(cause) : error;
  }
}

function describe(error) {
  return error instanceof Error ? error.message : String(error);
}

function trace(error) {
  if (!(error instanceof Error)) return String(error);
  return `${error.name}: ${error.message}\n${error.stack ?? ""}`.trimEnd();
}

/* ---- Values of the contract as JavaScript likes them. ---- */

function peerOf(peer) {
  return { ...peer, clockDelta: Number(peer.clockDelta) };
}

function leadershipOf(leadership) {
  return { leader: peerOf(leadership.leader), term: Number(leadership.term) };
}

function changeOf({ origin, key, outcome }) {
  const change = { origin: origin.tag, key, outcome: outcome.tag };
  if (origin.tag === "device") change.device = origin.val;
  if (outcome.tag === "put") change.value = outcome.val;
  if (outcome.tag === "counted") change.sum = Number(outcome.val);
  return change;
}

/** What is absent is null to this engine and undefined to others. */
function optional(value) {
  return value ?? undefined;
}

function ttlOf(ttl) {
  return ttl === undefined ? undefined : Math.round(ttl);
}

/* ---- What a plugin may call. ---- */

export const log = {
  trace: (text) => hostLog.write("trace", String(text)),
  debug: (text) => hostLog.write("debug", String(text)),
  info: (text) => hostLog.write("info", String(text)),
  warn: (text) => hostLog.write("warn", String(text)),
  error: (text) => hostLog.write("error", String(text)),
};

export const config = {
  get: (key) => optional(hostConfig.get(key)),
  entries: () => new Map(hostConfig.entries()),
};

export const group = {
  thisDevice: () => peerOf(hostGroup.thisDevice()),
  peers: () => hostGroup.peers().map(peerOf),
  leader: () => {
    const leadership = optional(hostGroup.leader());
    return leadership === undefined ? undefined : leadershipOf(leadership);
  },
  isLeader: () => hostGroup.isLeader(),
};

export const messages = {
  broadcast: (payload) => call(SendError, hostMessages.broadcast, payload),
  sendToLeader: (payload) => call(SendError, hostMessages.sendToLeader, payload),
  send: (to, payload) => call(SendError, hostMessages.send, to, payload),
  sendToAll: (payload) => call(SendError, hostMessages.sendToAll, payload),
};

function keyed(host) {
  return {
    get: (key) => optional(host.get(key)),
    keys: (prefix = "") => host.keys(prefix),
    entries: (prefix = "") => new Map(host.entries(prefix)),
    put: (key, value, ttl) => call(WriteError, host.put, key, value, ttlOf(ttl)),
    delete: (key) => call(WriteError, host.delete, key),
  };
}

export const leaderState = keyed(hostLeader);
export const sharedState = keyed(hostShared);

export const deviceState = {
  get: (device, key) => optional(hostDevice.get(device, key)),
  collect: (key) => new Map(hostDevice.collect(key)),
  keys: (device, prefix = "") => hostDevice.keys(device, prefix),
  put: (key, value, ttl) => call(WriteError, hostDevice.put, key, value, ttlOf(ttl)),
  delete: (key) => call(WriteError, hostDevice.delete, key),
};

export const counters = {
  get: (name) => Number(hostCounters.get(name)),
  add: (name, delta = 1) => Number(call(WriteError, hostCounters.add, name, Math.trunc(delta))),
};

export const clock = {
  now: () => Number(hostClock.now()),
  quality: () => {
    const quality = hostClock.quality();
    return { synchronised: quality.synchronised, errorBound: Number(quality.errorBound) };
  },
  wakeAt: (at, token) => hostClock.wakeAt(Math.round(at), token),
  wakeEvery: (period, token) => hostClock.wakeEvery(Math.round(period), token),
  cancel: (token) => hostClock.cancel(token),
};

export const local = {
  publish: (topic, payload, { retain = false } = {}) => hostLocal.publish(topic, payload, retain),
};

/* ---- What the host calls. ---- */

export function plugin(callbacks) {
  const has = (name) => typeof callbacks[name] === "function";

  /** Calls what must not fail: the error goes to the log before the instance ends. */
  function tell(name, ...values) {
    if (!has(name)) return undefined;
    try {
      return callbacks[name](...values);
    } catch (error) {
      log.error(trace(error));
      throw error;
    }
  }

  /** Calls what may refuse: the error's message is the result that the host sees. */
  function ask(name, ...values) {
    if (!has(name)) return undefined;
    try {
      return callbacks[name](...values);
    } catch (error) {
      log.debug(trace(error));
      throw describe(error);
    }
  }

  return {
    lifecycle: {
      setup: () => {
        Math.random = generator(`${hostGroup.thisDevice().device} ${hostClock.now()}`);
        ask("setup");
      },
      shutdown: (reason) => tell("shutdown", reason),
    },
    role: {
      promoteLeader: (leadership) => tell("promoteLeader", leadershipOf(leadership)),
      demoteLeader: () => tell("demoteLeader"),
      promoteFollower: (leadership) => tell("promoteFollower", leadershipOf(leadership)),
      demoteFollower: () => tell("demoteFollower"),
    },
    peerEvents: {
      onPeerAdded: (peer) => tell("peerAdded", peerOf(peer)),
      onPeerRemoved: (peer) => tell("peerRemoved", peerOf(peer)),
    },
    messageEvents: {
      onLeaderMessage: (payload, sender) => tell("leaderMessage", payload, leadershipOf(sender)),
      onPeerMessage: (payload, sender) => tell("peerMessage", payload, peerOf(sender)),
    },
    stateEvents: {
      onStateChanged: (changes) => tell("stateChanged", changes.map(changeOf)),
      onWritesSuperseded: (keys) => tell("writesSuperseded", keys),
    },
    timers: {
      onTimer: (token, due) => tell("timer", Number(token), Number(due)),
    },
    localEvents: {
      onLocalRequest: (topic, payload) => {
        if (!has("localRequest")) throw "this plugin answers no requests";
        return ask("localRequest", topic, payload);
      },
    },
    handover: {
      save: () => tell("save") ?? new Uint8Array(0),
      restore: (saved, fromVersion) => void ask("restore", saved, fromVersion),
    },
  };
}
