import { AREA, bytesAt, listAt, start, textAt, utf8, write } from "./abi";
import { Added, Entry, HostError, Leadership, Peer, bytesEntryAt, leadershipAt, peerAt, textEntryAt } from "./types";

// @ts-ignore: decorator
@external("consort:plugin/config@0.1.0", "get")
declare function configGet(key: usize, keyLength: i32, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/config@0.1.0", "entries")
declare function configEntries(result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/group@0.1.0", "this-device")
declare function groupThisDevice(result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/group@0.1.0", "peers")
declare function groupPeers(result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/group@0.1.0", "leader")
declare function groupLeader(result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/group@0.1.0", "is-leader")
declare function groupIsLeader(): i32;
// @ts-ignore: decorator
@external("consort:plugin/messages@0.1.0", "broadcast")
declare function messagesBroadcast(payload: usize, payloadLength: i32, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/messages@0.1.0", "send-to-leader")
declare function messagesSendToLeader(payload: usize, payloadLength: i32, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/messages@0.1.0", "send")
declare function messagesSend(to: usize, toLength: i32, payload: usize, payloadLength: i32, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/messages@0.1.0", "send-to-all")
declare function messagesSendToAll(payload: usize, payloadLength: i32, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/leader-state@0.1.0", "get")
declare function leaderGet(key: usize, keyLength: i32, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/leader-state@0.1.0", "keys")
declare function leaderKeys(prefix: usize, prefixLength: i32, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/leader-state@0.1.0", "entries")
declare function leaderEntries(prefix: usize, prefixLength: i32, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/shared-state@0.1.0", "get")
declare function sharedGet(key: usize, keyLength: i32, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/shared-state@0.1.0", "keys")
declare function sharedKeys(prefix: usize, prefixLength: i32, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/shared-state@0.1.0", "entries")
declare function sharedEntries(prefix: usize, prefixLength: i32, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/device-state@0.1.0", "get")
declare function deviceGet(device: usize, deviceLength: i32, key: usize, keyLength: i32, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/device-state@0.1.0", "collect")
declare function deviceCollect(key: usize, keyLength: i32, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/device-state@0.1.0", "keys")
declare function deviceKeys(device: usize, deviceLength: i32, prefix: usize, prefixLength: i32, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/leader-state@0.1.0", "put")
declare function leaderPut(key: usize, keyLength: i32, value: usize, valueLength: i32, lives: i32, ttl: u64, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/leader-state@0.1.0", "delete")
declare function leaderDelete(key: usize, keyLength: i32, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/shared-state@0.1.0", "put")
declare function sharedPut(key: usize, keyLength: i32, value: usize, valueLength: i32, lives: i32, ttl: u64, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/shared-state@0.1.0", "delete")
declare function sharedDelete(key: usize, keyLength: i32, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/device-state@0.1.0", "put")
declare function devicePut(key: usize, keyLength: i32, value: usize, valueLength: i32, lives: i32, ttl: u64, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/device-state@0.1.0", "delete")
declare function deviceDelete(key: usize, keyLength: i32, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/counters@0.1.0", "get")
declare function countersGet(name: usize, nameLength: i32): i64;
// @ts-ignore: decorator
@external("consort:plugin/counters@0.1.0", "add")
declare function countersAdd(name: usize, nameLength: i32, delta: i64, result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/clock@0.1.0", "now")
declare function clockNow(): u64;
// @ts-ignore: decorator
@external("consort:plugin/clock@0.1.0", "quality")
declare function clockQuality(result: usize): void;
// @ts-ignore: decorator
@external("consort:plugin/clock@0.1.0", "wake-at")
declare function clockWakeAt(at: u64, token: u64): void;
// @ts-ignore: decorator
@external("consort:plugin/clock@0.1.0", "wake-every")
declare function clockWakeEvery(period: u64, token: u64): void;
// @ts-ignore: decorator
@external("consort:plugin/clock@0.1.0", "cancel")
declare function clockCancel(token: u64): void;

// @ts-ignore: decorator
@external("consort:plugin/local@0.1.0", "publish")
declare function localPublish(topic: usize, topicLength: i32, payload: usize, length: i32, retain: i32): void;

/** The host's log, tagged with this plugin's id. */
export namespace log {
  export function trace(text: string): void {
    write(0, text);
  }
  export function debug(text: string): void {
    write(1, text);
  }
  export function info(text: string): void {
    write(2, text);
  }
  export function warn(text: string): void {
    write(3, text);
  }
  export function error(text: string): void {
    write(4, text);
  }
}

/** The `[config]` table of this plugin. */
export namespace config {
  /** The value of a setting; null if it is not set. */
  export function get(key: string): string | null {
    const name = utf8(key);
    configGet(start(name), name.byteLength, AREA);
    return load<bool>(AREA) ? textAt(AREA + 4) : null;
  }
  export function entries(): Entry<string>[] {
    configEntries(AREA);
    return listAt<Entry<string>>(AREA, 16, textEntryAt);
  }
}

/** Who is in the group, as this device sees it. */
export namespace group {
  export function thisDevice(): Peer {
    groupThisDevice(AREA);
    return peerAt(AREA);
  }
  /** Every member that runs this plugin, this device included, ordered by device id. */
  export function peers(): Peer[] {
    groupPeers(AREA);
    return listAt<Peer>(AREA, 48, peerAt);
  }
  /** The leader as this device knows it; null while an election is under way. */
  export function leader(): Leadership | null {
    groupLeader(AREA);
    return load<bool>(AREA) ? leadershipAt(AREA + 8) : null;
  }
  export function isLeader(): bool {
    return groupIsLeader() != 0;
  }
}

/** Messages arrive at most once and in no order; a lost one is not resent. Null is success. */
export namespace messages {
  /** Leader to every member, this device included. */
  export function broadcast(payload: Uint8Array): HostError | null {
    messagesBroadcast(payload.dataStart, payload.length, AREA);
    return sendError();
  }
  /** Any member to the leader; on the leader itself a local delivery. */
  export function sendToLeader(payload: Uint8Array): HostError | null {
    messagesSendToLeader(payload.dataStart, payload.length, AREA);
    return sendError();
  }
  /** Any member to the member with this device id. */
  export function send(to: string, payload: Uint8Array): HostError | null {
    const device = utf8(to);
    messagesSend(start(device), device.byteLength, payload.dataStart, payload.length, AREA);
    return sendError();
  }
  /** Any member to every member, this device included. */
  export function sendToAll(payload: Uint8Array): HostError | null {
    messagesSendToAll(payload.dataStart, payload.length, AREA);
    return sendError();
  }
}

function sendError(): HostError | null {
  if (!load<bool>(AREA)) return null;
  switch (load<u8>(AREA, 4)) {
    case 0:
      return new HostError("not-leader");
    case 1:
      return new HostError("no-leader");
    case 2:
      return new HostError("unknown-peer");
    case 3:
      return new HostError("too-large", load<u32>(AREA, 8));
    default:
      return new HostError("busy");
  }
}

function writeError(): HostError | null {
  if (!load<bool>(AREA)) return null;
  switch (load<u8>(AREA, 8)) {
    case 0:
      return new HostError("not-leader");
    case 1:
      return new HostError("invalid-key");
    case 2:
      return new HostError("too-large", load<u64>(AREA, 16));
    default:
      return new HostError("busy");
  }
}

function optionalBytes(): Uint8Array | null {
  return load<bool>(AREA) ? bytesAt(AREA + 4) : null;
}

/** Written by the leader and read by everyone. It outlives its leader. A `ttl` counts in milliseconds; 0 keeps the entry. */
export namespace leaderState {
  export function get(key: string): Uint8Array | null {
    const name = utf8(key);
    leaderGet(start(name), name.byteLength, AREA);
    return optionalBytes();
  }
  /** Those that begin with `prefix`, in order. */
  export function keys(prefix: string): string[] {
    const begin = utf8(prefix);
    leaderKeys(start(begin), begin.byteLength, AREA);
    return listAt<string>(AREA, 8, textAt);
  }
  export function entries(prefix: string): Entry<Uint8Array>[] {
    const begin = utf8(prefix);
    leaderEntries(start(begin), begin.byteLength, AREA);
    return listAt<Entry<Uint8Array>>(AREA, 16, bytesEntryAt);
  }
  export function put(key: string, value: Uint8Array, ttl: u64 = 0): HostError | null {
    const name = utf8(key);
    leaderPut(start(name), name.byteLength, value.dataStart, value.length, ttl ? 1 : 0, ttl, AREA);
    return writeError();
  }
  export function remove(key: string): HostError | null {
    const name = utf8(key);
    leaderDelete(start(name), name.byteLength, AREA);
    return writeError();
  }
}

/** Written by anyone; of two writes the later one wins on every device. A `ttl` counts in milliseconds; 0 keeps the entry. */
export namespace sharedState {
  export function get(key: string): Uint8Array | null {
    const name = utf8(key);
    sharedGet(start(name), name.byteLength, AREA);
    return optionalBytes();
  }
  /** Those that begin with `prefix`, in order. */
  export function keys(prefix: string): string[] {
    const begin = utf8(prefix);
    sharedKeys(start(begin), begin.byteLength, AREA);
    return listAt<string>(AREA, 8, textAt);
  }
  export function entries(prefix: string): Entry<Uint8Array>[] {
    const begin = utf8(prefix);
    sharedEntries(start(begin), begin.byteLength, AREA);
    return listAt<Entry<Uint8Array>>(AREA, 16, bytesEntryAt);
  }
  export function put(key: string, value: Uint8Array, ttl: u64 = 0): HostError | null {
    const name = utf8(key);
    sharedPut(start(name), name.byteLength, value.dataStart, value.length, ttl ? 1 : 0, ttl, AREA);
    return writeError();
  }
  export function remove(key: string): HostError | null {
    const name = utf8(key);
    sharedDelete(start(name), name.byteLength, AREA);
    return writeError();
  }
}

/** Written by each device for itself and read by everyone. */
export namespace deviceState {
  export function get(device: string, key: string): Uint8Array | null {
    const owner = utf8(device);
    const name = utf8(key);
    deviceGet(start(owner), owner.byteLength, start(name), name.byteLength, AREA);
    return optionalBytes();
  }
  /** The value under `key` of every device that has one; the entries' keys are device ids. */
  export function collect(key: string): Entry<Uint8Array>[] {
    const name = utf8(key);
    deviceCollect(start(name), name.byteLength, AREA);
    return listAt<Entry<Uint8Array>>(AREA, 16, bytesEntryAt);
  }
  export function keys(device: string, prefix: string): string[] {
    const owner = utf8(device);
    const begin = utf8(prefix);
    deviceKeys(start(owner), owner.byteLength, start(begin), begin.byteLength, AREA);
    return listAt<string>(AREA, 8, textAt);
  }
  export function put(key: string, value: Uint8Array, ttl: u64 = 0): HostError | null {
    const name = utf8(key);
    devicePut(start(name), name.byteLength, value.dataStart, value.length, ttl ? 1 : 0, ttl, AREA);
    return writeError();
  }
  export function remove(key: string): HostError | null {
    const name = utf8(key);
    deviceDelete(start(name), name.byteLength, AREA);
    return writeError();
  }
}

/** Added to by anyone, also while cut off; no increment is lost or counted twice. */
export namespace counters {
  export function get(name: string): i64 {
    const text = utf8(name);
    return countersGet(start(text), text.byteLength);
  }
  /** Adds, and gives the sum as this device sees it. */
  export function add(name: string, delta: i64): Added {
    const text = utf8(name);
    countersAdd(start(text), text.byteLength, delta, AREA);
    const error = writeError();
    return new Added(error === null ? load<i64>(AREA, 8) : 0, error);
  }
}

/** Whether this device is in step, and a bound on its error in microseconds. */
export class Quality {
  constructor(
    public synchronised: bool,
    public errorBound: u64,
  ) {}
}

/** The group's shared clock, in microseconds since the Unix epoch, and wake-ups on it. */
export namespace clock {
  /** It never runs backwards within one run of a plugin. */
  export function now(): u64 {
    return clockNow();
  }
  export function quality(): Quality {
    clockQuality(AREA);
    return new Quality(load<bool>(AREA), load<u64>(AREA, 8));
  }
  /** Calls `timer` at `at`, or at once if that has passed. A token has one timer. */
  export function wakeAt(at: u64, token: u64): void {
    clockWakeAt(at, token);
  }
  /** Calls `timer` at multiples of `period`, at the same instants on every device. */
  export function wakeEvery(period: u64, token: u64): void {
    clockWakeEvery(period, token);
  }
  export function cancel(token: u64): void {
    clockCancel(token);
  }
}

/** Programs on this same device that talk to this plugin. A plugin needs the capability `local`. */
export namespace local {
  /**
   * To every local subscriber of `topic`; never leaves the device. With `retain`, also to those
   * that subscribe later, until something else is published there.
   */
  export function publish(topic: string, payload: Uint8Array, retain: bool = false): void {
    const name = utf8(topic);
    localPublish(start(name), name.byteLength, payload.dataStart, payload.length, retain ? 1 : 0);
  }
}
