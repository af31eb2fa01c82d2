import { AREA, bytesAt, listAt, start, textAt, utf8, write } from "./abi";
import {
  Level,
  OPTION_BYTES_PAYLOAD,
  OPTION_LEADERSHIP_PAYLOAD,
  PEER_SIZE,
  RESULT_I64_WRITE_ERROR_PAYLOAD,
  RESULT_NOTHING_SEND_ERROR_PAYLOAD,
  RESULT_NOTHING_WRITE_ERROR_PAYLOAD,
  SEND_ERROR_PAYLOAD,
  SYNCHRONISATION_ERROR_BOUND,
  SYNCHRONISATION_SYNCHRONISED,
  SendError,
  WRITE_ERROR_PAYLOAD,
  WriteError,
  clockCancel,
  clockNow,
  clockQuality,
  clockWakeAt,
  clockWakeEvery,
  configEntries,
  configGet,
  countersAdd,
  countersGet,
  deviceStateCollect,
  deviceStateDelete,
  deviceStateGet,
  deviceStateKeys,
  deviceStatePut,
  groupIsLeader,
  groupLeader,
  groupPeers,
  groupThisDevice,
  leaderStateDelete,
  leaderStateEntries,
  leaderStateGet,
  leaderStateKeys,
  leaderStatePut,
  localPublish,
  messagesBroadcast,
  messagesSend,
  messagesSendToAll,
  messagesSendToLeader,
  sharedStateDelete,
  sharedStateEntries,
  sharedStateGet,
  sharedStateKeys,
  sharedStatePut,
} from "./contract";
import { Added, Entry, HostError, Leadership, Peer, bytesEntryAt, leadershipAt, peerAt, textEntryAt } from "./types";

/** The host's log, tagged with this plugin's id. */
export namespace log {
  export function trace(text: string): void {
    write(Level.Trace, text);
  }
  export function debug(text: string): void {
    write(Level.Debug, text);
  }
  export function info(text: string): void {
    write(Level.Info, text);
  }
  export function warn(text: string): void {
    write(Level.Warn, text);
  }
  export function error(text: string): void {
    write(Level.Error, text);
  }
}

/** The `[config]` table of this plugin. */
export namespace config {
  /** The value of a setting; null if it is not set. */
  export function get(key: string): string | null {
    const name = utf8(key);
    configGet(start(name), name.byteLength, AREA);
    return load<bool>(AREA) ? textAt(AREA + OPTION_BYTES_PAYLOAD) : null;
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
    return listAt<Peer>(AREA, PEER_SIZE, peerAt);
  }
  /** The leader as this device knows it; null while an election is under way. */
  export function leader(): Leadership | null {
    groupLeader(AREA);
    return load<bool>(AREA) ? leadershipAt(AREA + OPTION_LEADERSHIP_PAYLOAD) : null;
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
  const error = AREA + RESULT_NOTHING_SEND_ERROR_PAYLOAD;
  switch (<i32>load<u8>(error)) {
    case SendError.NotLeader:
      return new HostError("not-leader");
    case SendError.NoLeader:
      return new HostError("no-leader");
    case SendError.UnknownPeer:
      return new HostError("unknown-peer");
    case SendError.TooLarge:
      return new HostError("too-large", load<u32>(error + SEND_ERROR_PAYLOAD));
    default:
      return new HostError("busy");
  }
}

/** A sum in the place of nothing begins there, too. */
function writeError(): HostError | null {
  if (!load<bool>(AREA)) return null;
  const error = AREA + RESULT_NOTHING_WRITE_ERROR_PAYLOAD;
  switch (<i32>load<u8>(error)) {
    case WriteError.NotLeader:
      return new HostError("not-leader");
    case WriteError.InvalidKey:
      return new HostError("invalid-key");
    case WriteError.TooLarge:
      return new HostError("too-large", load<u64>(error + WRITE_ERROR_PAYLOAD));
    default:
      return new HostError("busy");
  }
}

function optionalBytes(): Uint8Array | null {
  return load<bool>(AREA) ? bytesAt(AREA + OPTION_BYTES_PAYLOAD) : null;
}

/** Written by the leader and read by everyone. It outlives its leader. A `ttl` counts in milliseconds; 0 keeps the entry. */
export namespace leaderState {
  export function get(key: string): Uint8Array | null {
    const name = utf8(key);
    leaderStateGet(start(name), name.byteLength, AREA);
    return optionalBytes();
  }
  /** Those that begin with `prefix`, in order. */
  export function keys(prefix: string): string[] {
    const begin = utf8(prefix);
    leaderStateKeys(start(begin), begin.byteLength, AREA);
    return listAt<string>(AREA, 8, textAt);
  }
  export function entries(prefix: string): Entry<Uint8Array>[] {
    const begin = utf8(prefix);
    leaderStateEntries(start(begin), begin.byteLength, AREA);
    return listAt<Entry<Uint8Array>>(AREA, 16, bytesEntryAt);
  }
  export function put(key: string, value: Uint8Array, ttl: u64 = 0): HostError | null {
    const name = utf8(key);
    leaderStatePut(start(name), name.byteLength, value.dataStart, value.length, ttl ? 1 : 0, ttl, AREA);
    return writeError();
  }
  export function remove(key: string): HostError | null {
    const name = utf8(key);
    leaderStateDelete(start(name), name.byteLength, AREA);
    return writeError();
  }
}

/** Written by anyone; of two writes the later one wins on every device. A `ttl` counts in milliseconds; 0 keeps the entry. */
export namespace sharedState {
  export function get(key: string): Uint8Array | null {
    const name = utf8(key);
    sharedStateGet(start(name), name.byteLength, AREA);
    return optionalBytes();
  }
  /** Those that begin with `prefix`, in order. */
  export function keys(prefix: string): string[] {
    const begin = utf8(prefix);
    sharedStateKeys(start(begin), begin.byteLength, AREA);
    return listAt<string>(AREA, 8, textAt);
  }
  export function entries(prefix: string): Entry<Uint8Array>[] {
    const begin = utf8(prefix);
    sharedStateEntries(start(begin), begin.byteLength, AREA);
    return listAt<Entry<Uint8Array>>(AREA, 16, bytesEntryAt);
  }
  export function put(key: string, value: Uint8Array, ttl: u64 = 0): HostError | null {
    const name = utf8(key);
    sharedStatePut(start(name), name.byteLength, value.dataStart, value.length, ttl ? 1 : 0, ttl, AREA);
    return writeError();
  }
  export function remove(key: string): HostError | null {
    const name = utf8(key);
    sharedStateDelete(start(name), name.byteLength, AREA);
    return writeError();
  }
}

/** Written by each device for itself and read by everyone. */
export namespace deviceState {
  export function get(device: string, key: string): Uint8Array | null {
    const owner = utf8(device);
    const name = utf8(key);
    deviceStateGet(start(owner), owner.byteLength, start(name), name.byteLength, AREA);
    return optionalBytes();
  }
  /** The value under `key` of every device that has one; the entries' keys are device ids. */
  export function collect(key: string): Entry<Uint8Array>[] {
    const name = utf8(key);
    deviceStateCollect(start(name), name.byteLength, AREA);
    return listAt<Entry<Uint8Array>>(AREA, 16, bytesEntryAt);
  }
  export function keys(device: string, prefix: string): string[] {
    const owner = utf8(device);
    const begin = utf8(prefix);
    deviceStateKeys(start(owner), owner.byteLength, start(begin), begin.byteLength, AREA);
    return listAt<string>(AREA, 8, textAt);
  }
  export function put(key: string, value: Uint8Array, ttl: u64 = 0): HostError | null {
    const name = utf8(key);
    deviceStatePut(start(name), name.byteLength, value.dataStart, value.length, ttl ? 1 : 0, ttl, AREA);
    return writeError();
  }
  export function remove(key: string): HostError | null {
    const name = utf8(key);
    deviceStateDelete(start(name), name.byteLength, AREA);
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
    return new Added(error === null ? load<i64>(AREA + RESULT_I64_WRITE_ERROR_PAYLOAD) : 0, error);
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
    return new Quality(
      load<bool>(AREA + SYNCHRONISATION_SYNCHRONISED),
      load<u64>(AREA + SYNCHRONISATION_ERROR_BOUND),
    );
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
