import { bytesAt, textAt } from "./abi";
import {
  CHANGE_KEY,
  CHANGE_ORIGIN,
  CHANGE_OUTCOME,
  LEADERSHIP_LEADER,
  LEADERSHIP_TERM,
  ORIGIN_PAYLOAD,
  OUTCOME_PAYLOAD,
  Origin,
  Outcome,
  PEER_ADDRESS,
  PEER_CLOCK_DELTA,
  PEER_DEVICE,
  PEER_IS_SELF,
  PEER_NAME,
  PEER_ROUND_TRIP,
  Reason,
} from "./contract";

/** A device that runs this plugin and is alive in the group. */
export class Peer {
  constructor(
    /** Its identity; it survives restarts, renames and changes of address. */
    public device: string,
    /** From the device's own configuration; not unique. */
    public name: string,
    /** Where it was last heard from. */
    public address: string,
    public isSelf: bool,
    /** Its wall clock minus this device's, in microseconds. */
    public clockDelta: i64,
    /** Smoothed round trip in microseconds; 0 for this device. */
    public roundTrip: u32,
  ) {}
}

/** One tenure of one leader; `term` grows with every change of leader. */
export class Leadership {
  constructor(
    public leader: Peer,
    public term: u64,
  ) {}
}

export { Origin, Outcome, Reason };

/** One key of the state that changed. */
export class Change {
  origin: Origin = Origin.Leader;
  /** Whose state it is, for `Origin.Device`. */
  device: string = "";
  key: string = "";
  outcome: Outcome = Outcome.Put;
  /** What was written, for `Outcome.Put`. */
  value: Uint8Array = new Uint8Array(0);
  /** The counter's new sum, for `Outcome.Counted`. */
  sum: i64 = 0;
}

/** A key and its value, or a device's id and its value. */
export class Entry<T> {
  constructor(
    public key: string,
    public value: T,
  ) {}
}

/** Why the host did nothing; its text is the contract's word, such as "not-leader". */
export class HostError {
  constructor(
    public reason: string,
    /** The bound in bytes, where the reason is "too-large". */
    public limit: u64 = 0,
  ) {}

  toString(): string {
    return this.limit > 0 ? this.reason + " " + this.limit.toString() : this.reason;
  }
}

/** What came of adding to a counter. */
export class Added {
  constructor(
    /** The sum as this device sees it; 0 if there is an error. */
    public sum: i64,
    public error: HostError | null,
  ) {}
}

/** What a request of a program on this device comes to: `Answer.of(bytes)` or `Answer.refuse(why)`. */
export class Answer {
  private constructor(
    public payload: Uint8Array,
    /** Why there is none. */
    public refusal: string | null,
  ) {}

  static of(payload: Uint8Array): Answer {
    return new Answer(payload, null);
  }

  static refuse(why: string): Answer {
    return new Answer(new Uint8Array(0), why);
  }
}

/* Records in memory. */

export function peerAt(at: usize): Peer {
  return new Peer(
    textAt(at + PEER_DEVICE),
    textAt(at + PEER_NAME),
    textAt(at + PEER_ADDRESS),
    load<bool>(at + PEER_IS_SELF),
    load<i64>(at + PEER_CLOCK_DELTA),
    load<u32>(at + PEER_ROUND_TRIP),
  );
}

export function leadershipAt(at: usize): Leadership {
  return new Leadership(peerAt(at + LEADERSHIP_LEADER), load<u64>(at + LEADERSHIP_TERM));
}

export function changeAt(at: usize): Change {
  const change = new Change();
  const origin = at + CHANGE_ORIGIN;
  change.origin = load<u8>(origin);
  if (change.origin == Origin.Device) change.device = textAt(origin + ORIGIN_PAYLOAD);
  change.key = textAt(at + CHANGE_KEY);
  const outcome = at + CHANGE_OUTCOME;
  change.outcome = load<u8>(outcome);
  if (change.outcome == Outcome.Put) change.value = bytesAt(outcome + OUTCOME_PAYLOAD);
  if (change.outcome == Outcome.Counted) change.sum = load<i64>(outcome + OUTCOME_PAYLOAD);
  return change;
}

export function textEntryAt(at: usize): Entry<string> {
  return new Entry<string>(textAt(at), textAt(at + 8));
}

export function bytesEntryAt(at: usize): Entry<Uint8Array> {
  return new Entry<Uint8Array>(textAt(at), bytesAt(at + 8));
}
