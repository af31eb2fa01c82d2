import { Answer, Change, Leadership, Peer, Reason } from "./types";

/** The callbacks, each with a default that does nothing. The host calls one at a time. */
export class Plugin {
  /** Once, before any other callback. A text rejects the plugin, or the reload; null accepts. */
  setup(): string | null {
    return null;
  }
  /** Before an orderly unload. A fault or a power cut skips it. */
  shutdown(reason: Reason): void {}
  /** This device leads from here on. */
  promoteLeader(leadership: Leadership): void {}
  /** This device leads no longer. Timers stay set. */
  demoteLeader(): void {}
  /** Another device leads from here on. */
  promoteFollower(leadership: Leadership): void {}
  /** The device that led is lost or was replaced. */
  demoteFollower(): void {}
  /** A device joined the group; this device is the first. */
  peerAdded(peer: Peer): void {}
  /** A device left the group. */
  peerRemoved(peer: Peer): void {}
  /** From the leader's `messages.broadcast`, on every member including the leader. */
  leaderMessage(payload: Uint8Array, sender: Leadership): void {}
  /** From any member's `messages.sendToLeader`, `send` or `sendToAll`. */
  peerMessage(payload: Uint8Array, sender: Peer): void {}
  /** What changed since the last call, without this device's own writes; each key once. */
  stateChanged(changes: Change[]): void {}
  /** Leader-state keys that this device wrote as leader and the group did not adopt. */
  writesSuperseded(keys: string[]): void {}
  /** A timer is due; `due` is when it was to fire, in group time. */
  timer(token: u64, due: u64): void {}
  /** A request of a program on this device; the result is its answer. */
  localRequest(topic: string, payload: Uint8Array): Answer {
    return Answer.refuse("this plugin answers no requests");
  }
  /** What the next version of this plugin is to know, when it replaces this one. */
  save(): Uint8Array {
    return new Uint8Array(0);
  }
  /** What the version `fromVersion` saved, after `setup`. A text ends the reload. */
  restore(saved: Uint8Array, fromVersion: string): string | null {
    return null;
  }
}

let plugin: Plugin = new Plugin();

/** Makes an object the plugin of this program. Once, at the top of its file. */
export function register(own: Plugin): void {
  plugin = own;
}

export function registered(): Plugin {
  return plugin;
}
