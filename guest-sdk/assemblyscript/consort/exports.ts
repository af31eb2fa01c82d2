/*
 * What the host calls. A plugin's entry file has `export * from "./consort/exports"`; rename.mjs
 * then gives these functions the names of the contract, which no identifier can have.
 */

import { answered, handOver, takeBytes, takeList, takeText, verdict } from "./abi";
import { CHANGE_SIZE } from "./contract";
import { Change, Leadership, Peer, changeAt } from "./types";
import { textAt } from "./abi";
import { registered } from "./plugin";

export { realloc as cabi_realloc } from "./abi";

function peer(d: usize, dl: i32, n: usize, nl: i32, a: usize, al: i32, self: i32, delta: i64, trip: u32): Peer {
  return new Peer(takeText(d, dl), takeText(n, nl), takeText(a, al), self != 0, delta, trip);
}

export function setup(): usize {
  return verdict(registered().setup());
}

export function shutdown(reason: i32): void {
  registered().shutdown(reason);
}

export function promoteLeader(d: usize, dl: i32, n: usize, nl: i32, a: usize, al: i32, self: i32, delta: i64, trip: u32, term: u64): void {
  registered().promoteLeader(new Leadership(peer(d, dl, n, nl, a, al, self, delta, trip), term));
}

export function demoteLeader(): void {
  registered().demoteLeader();
}

export function promoteFollower(d: usize, dl: i32, n: usize, nl: i32, a: usize, al: i32, self: i32, delta: i64, trip: u32, term: u64): void {
  registered().promoteFollower(new Leadership(peer(d, dl, n, nl, a, al, self, delta, trip), term));
}

export function demoteFollower(): void {
  registered().demoteFollower();
}

export function peerAdded(d: usize, dl: i32, n: usize, nl: i32, a: usize, al: i32, self: i32, delta: i64, trip: u32): void {
  registered().peerAdded(peer(d, dl, n, nl, a, al, self, delta, trip));
}

export function peerRemoved(d: usize, dl: i32, n: usize, nl: i32, a: usize, al: i32, self: i32, delta: i64, trip: u32): void {
  registered().peerRemoved(peer(d, dl, n, nl, a, al, self, delta, trip));
}

export function leaderMessage(m: usize, ml: i32, d: usize, dl: i32, n: usize, nl: i32, a: usize, al: i32, self: i32, delta: i64, trip: u32, term: u64): void {
  const sender = new Leadership(peer(d, dl, n, nl, a, al, self, delta, trip), term);
  registered().leaderMessage(takeBytes(m, ml), sender);
}

export function peerMessage(m: usize, ml: i32, d: usize, dl: i32, n: usize, nl: i32, a: usize, al: i32, self: i32, delta: i64, trip: u32): void {
  const sender = peer(d, dl, n, nl, a, al, self, delta, trip);
  registered().peerMessage(takeBytes(m, ml), sender);
}

export function stateChanged(first: usize, count: i32): void {
  registered().stateChanged(takeList<Change>(first, count, CHANGE_SIZE, changeAt));
}

export function writesSuperseded(first: usize, count: i32): void {
  registered().writesSuperseded(takeList<string>(first, count, 8, textAt));
}

export function timer(token: u64, due: u64): void {
  registered().timer(token, due);
}

export function localRequest(topic: usize, topicLength: i32, payload: usize, length: i32): usize {
  const bytes = takeBytes(payload, length);
  const answer = registered().localRequest(takeText(topic, topicLength), bytes);
  return answered(answer.payload, answer.refusal);
}

export function save(): usize {
  return handOver(registered().save());
}

export function restore(saved: usize, length: i32, version: usize, versionLength: i32): usize {
  const bytes = takeBytes(saved, length);
  return verdict(registered().restore(bytes, takeText(version, versionLength)));
}
