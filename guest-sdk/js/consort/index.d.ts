export * as payload from "./payload.js";

/** A device that runs this plugin and is alive in the group. */
export interface Peer {
  /** The device's identity: it survives restarts, renames and changes of address. */
  device: string;
  /** From the device's own configuration; not unique. */
  name: string;
  /** Where it was last heard from; `127.0.0.1` for this device. */
  address: string;
  isSelf: boolean;
  /** Its wall clock minus this device's, in microseconds. */
  clockDelta: number;
  /** Smoothed round trip in microseconds; 0 for this device. */
  roundTrip: number;
}

/** One tenure of one leader. */
export interface Leadership {
  leader: Peer;
  /** Grows with every change of leader. */
  term: number;
}

/** Why a plugin is unloaded. */
export type Reason = "stop" | "reload" | "remove";

/** One key of the state that changed. */
export interface Change {
  origin: "leader" | "device" | "shared" | "counter";
  /** Whose state it is, where the origin is `device`. */
  device?: string;
  key: string;
  outcome: "put" | "counted" | "deleted" | "expired";
  /** What was written, where the outcome is `put`. */
  value?: Uint8Array;
  /** The counter's new sum, where the outcome is `counted`. */
  sum?: number;
}

/** The callbacks of a plugin, each of which may be left out. The host calls one at a time. */
export interface Plugin {
  /** Once, before any other callback. An error rejects the plugin, or the reload. */
  setup?(): void;
  /** Before an orderly unload. A fault or a power cut skips it. */
  shutdown?(reason: Reason): void;
  /** This device leads from here on. */
  promoteLeader?(leadership: Leadership): void;
  /** This device leads no longer. Timers stay set. */
  demoteLeader?(): void;
  /** Another device leads from here on. */
  promoteFollower?(leadership: Leadership): void;
  /** The device that led is lost or was replaced. */
  demoteFollower?(): void;
  /** A device joined the group; this device is the first. */
  peerAdded?(peer: Peer): void;
  /** A device left the group. */
  peerRemoved?(peer: Peer): void;
  /** From the leader's `messages.broadcast`, on every member including the leader. */
  leaderMessage?(payload: Uint8Array, sender: Leadership): void;
  /** From any member's `messages.sendToLeader`, `send` or `sendToAll`. */
  peerMessage?(payload: Uint8Array, sender: Peer): void;
  /** What changed since the last call, without this device's own writes; each key once. */
  stateChanged?(changes: Change[]): void;
  /** Leader-state keys that this device wrote as leader and the group did not adopt. */
  writesSuperseded?(keys: string[]): void;
  /** A timer is due; `due` is when it was to fire, in group time. */
  timer?(token: number, due: number): void;
  /** A request of a program on this device; what is returned is its answer, an error its refusal. */
  localRequest?(topic: string, payload: Uint8Array): Uint8Array;
  /** What the next version of this plugin is to know, when it replaces this one. */
  save?(): Uint8Array;
  /** What the version `fromVersion` saved, after `setup`. An error ends the reload. */
  restore?(saved: Uint8Array, fromVersion: string): void;
}

/** What the host calls, made of a plugin. A module exports every member under its name. */
export interface Exports {
  lifecycle: object;
  role: object;
  peerEvents: object;
  messageEvents: object;
  stateEvents: object;
  timers: object;
  localEvents: object;
  handover: object;
}

/** Makes an object with callbacks the plugin. Once per project. */
export function plugin(callbacks: Plugin): Exports;

declare class HostError extends Error {
  /** The bound in bytes, where the reason is `too-large`. */
  readonly limit?: number;
}

/** A message was not sent. */
export class SendError extends HostError {
  readonly reason: "not-leader" | "no-leader" | "unknown-peer" | "too-large" | "busy";
}

/** State was not written. */
export class WriteError extends HostError {
  readonly reason: "not-leader" | "invalid-key" | "too-large" | "busy";
}

/** The host's log, tagged with this plugin's id. */
export const log: {
  trace(text: unknown): void;
  debug(text: unknown): void;
  info(text: unknown): void;
  warn(text: unknown): void;
  error(text: unknown): void;
};

/** The `[config]` table of this plugin: the manifest's values, overlaid with the operator's. */
export const config: {
  get(key: string): string | undefined;
  entries(): Map<string, string>;
};

/** Who is in the group, as this device sees it. */
export const group: {
  thisDevice(): Peer;
  /** Every member that runs this plugin, this device included, ordered by device id. */
  peers(): Peer[];
  /** The leader as this device knows it; none while an election is under way. */
  leader(): Leadership | undefined;
  isLeader(): boolean;
};

/**
 * Short messages. Each arrives at most once, in no particular order; a lost one is not resent.
 * Every function throws {@link SendError}.
 */
export const messages: {
  /** Leader to every member, this device included. */
  broadcast(payload: Uint8Array): void;
  /** Any member to the leader; on the leader itself a local delivery. */
  sendToLeader(payload: Uint8Array): void;
  /** Any member to the member with the device id `to`. */
  send(to: string, payload: Uint8Array): void;
  /** Any member to every member, this device included. */
  sendToAll(payload: Uint8Array): void;
};

/** State by key. Writes throw {@link WriteError}; a `ttl` counts in milliseconds. */
export interface KeyedState {
  get(key: string): Uint8Array | undefined;
  /** The keys that begin with `prefix`, in order. */
  keys(prefix?: string): string[];
  entries(prefix?: string): Map<string, Uint8Array>;
  put(key: string, value: Uint8Array, ttl?: number): void;
  delete(key: string): void;
}

/** State that the leader writes and everyone reads. It outlives its leader. */
export const leaderState: KeyedState;

/** State that anyone writes; of two writes the later one wins on every device. */
export const sharedState: KeyedState;

/** State that each device writes for itself and everyone reads. */
export const deviceState: {
  get(device: string, key: string): Uint8Array | undefined;
  /** The value under `key` of every device that has one, by device id. */
  collect(key: string): Map<string, Uint8Array>;
  keys(device: string, prefix?: string): string[];
  put(key: string, value: Uint8Array, ttl?: number): void;
  delete(key: string): void;
};

/** Counters that anyone adds to, also while cut off; no increment is lost or counted twice. */
export const counters: {
  get(name: string): number;
  /** Adds, 1 if nothing else is said, and returns the sum as this device sees it. */
  add(name: string, delta?: number): number;
};

/** The group's shared clock, and wake-ups on it. Times are microseconds since the Unix epoch. */
export const clock: {
  /** Group time. It never runs backwards within one run of a plugin. */
  now(): number;
  /** Whether this device is in step, and a bound on its error in microseconds. */
  quality(): { synchronised: boolean; errorBound: number };
  /** Calls `timer` at `at`, or at once if that has passed. A token has one timer. */
  wakeAt(at: number, token: number): void;
  /** Calls `timer` at multiples of `period`, at the same instants on every device. */
  wakeEvery(period: number, token: number): void;
  /** Removes the timer of `token`, if there is one. */
  cancel(token: number): void;
};

/**
 * Programs on this same device that talk to this plugin: a player, a kiosk page, a sensor script.
 * Nothing of it leaves the device. A plugin needs the capability `local`.
 */
export const local: {
  /**
   * To every local subscriber of `topic`. With `retain`, also to those that subscribe later, until
   * something else is published there.
   */
  publish(topic: string, payload: Uint8Array, options?: { retain?: boolean }): void;
};
