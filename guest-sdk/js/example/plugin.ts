/*
 * The tour: every callback and every call of the host, once, in the same words in every language.
 *
 * It greets its peers, tells what it hears, and does what messages of the form {"op": ...} ask for.
 */

import {
  type Change,
  type Leadership,
  type Peer,
  type Reason,
  SendError,
  WriteError,
  clock,
  config,
  counters,
  deviceState,
  group,
  leaderState,
  local,
  log,
  messages,
  payload,
  plugin,
  sharedState,
} from "./consort/index.js";

const [ONCE, ALWAYS, NEVER] = [1, 2, 3];

let heard = 0;

const yes = (answer: boolean) => (answer ? "yes" : "no");

const hello = () => payload.encode({ op: "hello", from: group.thisDevice().name });

/** Text as bytes and back; plain ASCII does here. */
const bytes = (text: string) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));
const text = (value?: Uint8Array) => (value ? String.fromCharCode(...value) : "none");

/** What came of a call, in the contract's words. */
function outcome(call: () => void): string {
  try {
    call();
    return "ok";
  } catch (error) {
    if (error instanceof SendError || error instanceof WriteError) return error.message;
    throw error;
  }
}

function read(message: Uint8Array): any {
  try {
    return payload.decode(message);
  } catch (error) {
    if (error instanceof payload.DecodeError) return undefined;
    throw error;
  }
}

/** Who says hello. */
function told(message: Uint8Array): string {
  const value = read(message);
  return value === undefined ? "no MessagePack" : `hello from ${value.from}`;
}

function describe({ key, outcome, value, sum }: Change): string {
  if (outcome === "put") return `put ${key === "hello" ? told(value!) : text(value)}`;
  return outcome === "counted" ? `counted ${sum}` : outcome;
}

function tellGroup() {
  const leader = group.leader();
  const led = leader ? `${leader.leader.name} in term ${leader.term}` : "none";
  log.info(`group: leader ${led}, leading ${yes(group.isLeader())}`);
  for (const { name, address, isSelf, clockDelta, roundTrip } of group.peers()) {
    const times = `delta ${clockDelta}, round trip ${roundTrip}`;
    log.info(`group: ${name} at ${address}, self ${yes(isSelf)}, ${times}`);
  }
}

function tellTime() {
  const { synchronised, errorBound } = clock.quality();
  log.info(`time: synchronised ${yes(synchronised)}, bound ${errorBound}`);
  log.info(`time: ${yes(clock.now() > 1_600_000_000_000_000)}`);
}

/** With the setting `chance`: the clock and the randomness that the language has by itself. */
function tellChance() {
  if (config.get("chance") === undefined) return;
  log.info(`chance: ${Math.random()} at ${Date.now()}`);
}

function tellErrors() {
  log.error(`broadcast: ${outcome(() => messages.broadcast(hello()))}`);
  log.error(`send: ${outcome(() => messages.send("nobody", hello()))}`);
  log.error(`send-to-all: ${outcome(() => messages.sendToAll(new Uint8Array(70_000)))}`);
  log.error(`put: ${outcome(() => sharedState.put("", new Uint8Array(0)))}`);
}

function listed(entries: Map<string, Uint8Array>): string {
  return [...entries].map(([key, value]) => `${key}=${text(value)}`).join(",");
}

function useState() {
  log.info(`leader-state: put ${outcome(() => leaderState.put("motto", bytes("onward")))}`);
  const motto = text(leaderState.get("motto"));
  log.info(`leader-state: ${motto} ${leaderState.keys("mo")} ${listed(leaderState.entries("mo"))}`);
  log.info(`leader-state: delete ${outcome(() => leaderState.delete("motto"))}`);

  const { device } = group.thisDevice();
  log.info(`device-state: put ${outcome(() => deviceState.put("mood", bytes("calm"), 60_000))}`);
  const moods = [...deviceState.collect("mood").values()].map(text);
  const mood = text(deviceState.get(device, "mood"));
  log.info(`device-state: ${mood} ${deviceState.keys(device, "mo")} ${moods}`);
  log.info(`device-state: delete ${outcome(() => deviceState.delete("mood"))}`);

  log.info(`shared-state: put ${outcome(() => sharedState.put("colour", bytes("red")))}`);
  const colour = text(sharedState.get("colour"));
  log.info(`shared-state: ${colour} ${sharedState.keys("co")} ${listed(sharedState.entries("co"))}`);
  log.info(`shared-state: delete ${outcome(() => sharedState.delete("colour"))}`);

  log.info(`counters: add ${counters.add("visits", 2)}`);
  log.info(`counters: ${counters.get("visits")}`);
}

function useLocal() {
  local.publish("moment", bytes("now"));
  local.publish("hello", hello(), { retain: true });
  log.info("local: published yes");
}

function act(request: any, sender: Peer) {
  switch (request?.op) {
    case "hello":
      return log.info(`peer-message: hello from ${request.from}`);
    case "echo": {
      const answer = payload.encode({ op: "echoed", value: request.value });
      return log.info(`echo: ${outcome(() => messages.send(sender.device, answer))}`);
    }
    case "group":
      return tellGroup();
    case "time":
      return tellTime();
    case "errors":
      return tellErrors();
    case "state":
      return useState();
    case "local":
      return useLocal();
    case "fault":
      throw new Error("asked to fail");
    default:
      return log.warn("peer-message: unknown");
  }
}

export const { lifecycle, role, peerEvents, messageEvents, stateEvents, timers, localEvents, handover } = plugin({
  setup() {
    const refusal = config.get("refuse");
    if (refusal !== undefined) throw new Error(`refused: ${refusal}`);
    log.trace("a trace");
    log.debug("a detail");
    log.info(`setup: ${config.entries().size} settings, greeting ${config.get("greeting")}`);
    clock.wakeAt(clock.now() + 1_000_000, ONCE);
    clock.wakeEvery(10_000_000, ALWAYS);
    clock.wakeAt(clock.now() + 1_000_000, NEVER);
    clock.cancel(NEVER);
    tellChance();
  },

  shutdown(reason: Reason) {
    log.info(`shutdown: ${reason}`);
  },

  promoteLeader({ leader, term }: Leadership) {
    log.info(`promote-leader: ${leader.name} in term ${term}`);
    log.info(`broadcast: ${outcome(() => messages.broadcast(hello()))}`);
    log.info(`leader-state: hello ${outcome(() => leaderState.put("hello", hello()))}`);
    log.info(`shared-state: hello ${outcome(() => sharedState.put("hello", hello()))}`);
    log.info(`counters: tenures ${counters.add("tenures")}`);
  },

  demoteLeader() {
    log.info(`demote-leader: leading ${yes(group.isLeader())}`);
  },

  promoteFollower({ leader, term }: Leadership) {
    log.info(`promote-follower: ${leader.name} in term ${term}`);
    log.info(`send-to-leader: ${outcome(() => messages.sendToLeader(hello()))}`);
    const names = [...deviceState.collect("hello").values()].map((value) => read(value)?.from);
    log.info(`device-state: hello from ${names}`);
  },

  demoteFollower() {
    log.info("demote-follower");
  },

  peerAdded(peer: Peer) {
    log.info(`peer-added: ${peer.name} of ${group.peers().length}`);
    if (peer.isSelf) log.info(`device-state: hello ${outcome(() => deviceState.put("hello", hello()))}`);
    else log.info(`send: ${outcome(() => messages.send(peer.device, hello()))}`);
  },

  peerRemoved(peer: Peer) {
    log.info(`peer-removed: ${peer.name} of ${group.peers().length}`);
  },

  leaderMessage(message: Uint8Array, sender: Leadership) {
    heard += 1;
    log.info(`leader-message: ${told(message)} in term ${sender.term}`);
  },

  peerMessage(message: Uint8Array, sender: Peer) {
    heard += 1;
    const request = read(message);
    if (request === undefined) log.warn("peer-message: no MessagePack");
    else act(request, sender);
  },

  stateChanged(changes: Change[]) {
    for (const change of changes) {
      const { origin, device, key } = change;
      const whose = origin === "device" ? `device ${device}` : origin;
      log.info(`state-changed: ${whose} ${key} ${describe(change)}`);
    }
  },

  writesSuperseded(keys: string[]) {
    log.info(`writes-superseded: ${keys}`);
  },

  timer(token: number, due: number) {
    log.info(`timer: ${token} due ${yes(due <= clock.now())}`);
    tellChance();
  },

  localRequest(topic: string, payload: Uint8Array) {
    log.info(`local-request: ${topic} with ${payload.length} bytes`);
    if (topic === "echo") return payload;
    throw new Error(`refused: ${topic}`);
  },

  save() {
    log.info(`save: ${heard}`);
    return payload.encode({ heard });
  },

  restore(saved: Uint8Array, fromVersion: string) {
    const value = read(saved);
    if (value === undefined) throw new Error("restore: no MessagePack");
    heard = value.heard;
    log.info(`restore: ${heard} from ${fromVersion}`);
  },
});
