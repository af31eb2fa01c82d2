// The contract's imports in the canonical ABI of the component model, and where its types lie in memory.
// Made from wit/ by `cargo run -p consort-tidy --bin bindings`; changes go there.

export enum Level {
  Trace,
  Debug,
  Info,
  Warn,
  Error,
}

export const PEER_SIZE: usize = 48;
export const PEER_DEVICE: usize = 0;
export const PEER_NAME: usize = 8;
export const PEER_ADDRESS: usize = 16;
export const PEER_IS_SELF: usize = 24;
export const PEER_CLOCK_DELTA: usize = 32;
export const PEER_ROUND_TRIP: usize = 40;

export const LEADERSHIP_SIZE: usize = 56;
export const LEADERSHIP_LEADER: usize = 0;
export const LEADERSHIP_TERM: usize = 48;

export enum SendError {
  NotLeader,
  NoLeader,
  UnknownPeer,
  TooLarge,
  Busy,
}

export const SEND_ERROR_SIZE: usize = 8;
export const SEND_ERROR_PAYLOAD: usize = 4;

export enum WriteError {
  NotLeader,
  InvalidKey,
  TooLarge,
  Busy,
}

export const WRITE_ERROR_SIZE: usize = 16;
export const WRITE_ERROR_PAYLOAD: usize = 8;

export const SYNCHRONISATION_SIZE: usize = 16;
export const SYNCHRONISATION_SYNCHRONISED: usize = 0;
export const SYNCHRONISATION_ERROR_BOUND: usize = 8;

export enum Reason {
  Stop,
  Reload,
  Remove,
}

export enum Origin {
  Leader,
  Device,
  Shared,
  Counter,
}

export const ORIGIN_SIZE: usize = 12;
export const ORIGIN_PAYLOAD: usize = 4;

export enum Outcome {
  Put,
  Counted,
  Deleted,
  Expired,
}

export const OUTCOME_SIZE: usize = 16;
export const OUTCOME_PAYLOAD: usize = 8;

export const CHANGE_SIZE: usize = 40;
export const CHANGE_ORIGIN: usize = 0;
export const CHANGE_KEY: usize = 12;
export const CHANGE_OUTCOME: usize = 24;

export const OPTION_BYTES_PAYLOAD: usize = 4;
export const OPTION_LEADERSHIP_PAYLOAD: usize = 8;
export const RESULT_NOTHING_SEND_ERROR_PAYLOAD: usize = 4;
export const RESULT_NOTHING_WRITE_ERROR_PAYLOAD: usize = 8;
export const RESULT_I64_WRITE_ERROR_PAYLOAD: usize = 8;

// @ts-ignore: decorator
@external("consort:plugin/log@0.1.0", "write")
export declare function logWrite(level: i32, message: usize, messageLength: i32): void;

// @ts-ignore: decorator
@external("consort:plugin/config@0.1.0", "get")
export declare function configGet(key: usize, keyLength: i32, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/config@0.1.0", "entries")
export declare function configEntries(result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/group@0.1.0", "this-device")
export declare function groupThisDevice(result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/group@0.1.0", "peers")
export declare function groupPeers(result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/group@0.1.0", "leader")
export declare function groupLeader(result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/group@0.1.0", "is-leader")
export declare function groupIsLeader(): i32;

// @ts-ignore: decorator
@external("consort:plugin/messages@0.1.0", "broadcast")
export declare function messagesBroadcast(payload: usize, payloadLength: i32, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/messages@0.1.0", "send-to-leader")
export declare function messagesSendToLeader(payload: usize, payloadLength: i32, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/messages@0.1.0", "send")
export declare function messagesSend(to: usize, toLength: i32, payload: usize, payloadLength: i32, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/messages@0.1.0", "send-to-all")
export declare function messagesSendToAll(payload: usize, payloadLength: i32, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/leader-state@0.1.0", "get")
export declare function leaderStateGet(key: usize, keyLength: i32, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/leader-state@0.1.0", "keys")
export declare function leaderStateKeys(prefix: usize, prefixLength: i32, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/leader-state@0.1.0", "entries")
export declare function leaderStateEntries(prefix: usize, prefixLength: i32, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/leader-state@0.1.0", "put")
export declare function leaderStatePut(key: usize, keyLength: i32, value: usize, valueLength: i32, ttlSome: i32, ttl: u64, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/leader-state@0.1.0", "delete")
export declare function leaderStateDelete(key: usize, keyLength: i32, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/device-state@0.1.0", "get")
export declare function deviceStateGet(device: usize, deviceLength: i32, key: usize, keyLength: i32, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/device-state@0.1.0", "collect")
export declare function deviceStateCollect(key: usize, keyLength: i32, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/device-state@0.1.0", "keys")
export declare function deviceStateKeys(device: usize, deviceLength: i32, prefix: usize, prefixLength: i32, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/device-state@0.1.0", "put")
export declare function deviceStatePut(key: usize, keyLength: i32, value: usize, valueLength: i32, ttlSome: i32, ttl: u64, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/device-state@0.1.0", "delete")
export declare function deviceStateDelete(key: usize, keyLength: i32, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/shared-state@0.1.0", "get")
export declare function sharedStateGet(key: usize, keyLength: i32, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/shared-state@0.1.0", "keys")
export declare function sharedStateKeys(prefix: usize, prefixLength: i32, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/shared-state@0.1.0", "entries")
export declare function sharedStateEntries(prefix: usize, prefixLength: i32, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/shared-state@0.1.0", "put")
export declare function sharedStatePut(key: usize, keyLength: i32, value: usize, valueLength: i32, ttlSome: i32, ttl: u64, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/shared-state@0.1.0", "delete")
export declare function sharedStateDelete(key: usize, keyLength: i32, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/counters@0.1.0", "get")
export declare function countersGet(name: usize, nameLength: i32): i64;

// @ts-ignore: decorator
@external("consort:plugin/counters@0.1.0", "add")
export declare function countersAdd(name: usize, nameLength: i32, delta: i64, result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/clock@0.1.0", "now")
export declare function clockNow(): u64;

// @ts-ignore: decorator
@external("consort:plugin/clock@0.1.0", "quality")
export declare function clockQuality(result: usize): void;

// @ts-ignore: decorator
@external("consort:plugin/clock@0.1.0", "wake-at")
export declare function clockWakeAt(at: u64, token: u64): void;

// @ts-ignore: decorator
@external("consort:plugin/clock@0.1.0", "wake-every")
export declare function clockWakeEvery(period: u64, token: u64): void;

// @ts-ignore: decorator
@external("consort:plugin/clock@0.1.0", "cancel")
export declare function clockCancel(token: u64): void;

// @ts-ignore: decorator
@external("consort:plugin/local@0.1.0", "publish")
export declare function localPublish(topic: usize, topicLength: i32, payload: usize, payloadLength: i32, retain: i32): void;
