/*
 * The ways of values into and out of the canonical ABI of the component model. What the contract has in it
 * is in contract.ts.
 *
 * What the host writes lies in memory of `heap`: it is copied into AssemblyScript's own objects
 * and freed at once.
 */

import { Level, logWrite } from "./contract";

/** Where the host puts results, and where exports leave theirs. */
export const AREA: usize = memory.data(64, 8);

/** Called by the host for what it passes in. */
export function realloc(old: usize, oldSize: usize, align: usize, size: usize): usize {
  if (size == 0) return align;
  return old ? heap.realloc(old, size) : heap.alloc(size);
}

function free(at: usize, length: i32): void {
  if (length > 0) heap.free(at);
}

/** A text that the host passed in. */
export function takeText(at: usize, length: i32): string {
  const text = String.UTF8.decodeUnsafe(at, length);
  free(at, length);
  return text;
}

/** Bytes that the host passed in. */
export function takeBytes(at: usize, length: i32): Uint8Array {
  const bytes = new Uint8Array(length);
  memory.copy(bytes.dataStart, at, length);
  free(at, length);
  return bytes;
}

export function textAt(at: usize): string {
  return takeText(load<usize>(at), load<i32>(at, 4));
}

export function bytesAt(at: usize): Uint8Array {
  return takeBytes(load<usize>(at), load<i32>(at, 4));
}

/** The elements of a list, each of which `read` takes from its place. */
export function listAt<T>(at: usize, size: usize, read: (at: usize) => T): T[] {
  return takeList<T>(load<usize>(at), load<i32>(at, 4), size, read);
}

export function takeList<T>(first: usize, count: i32, size: usize, read: (at: usize) => T): T[] {
  const items: T[] = [];
  for (let i = 0; i < count; i++) items.push(read(first + <usize>i * size));
  free(first, count);
  return items;
}

/** A text on its way to the host. */
export function utf8(text: string): ArrayBuffer {
  return String.UTF8.encode(text);
}

// @ts-ignore: decorator
@inline
export function start(buffer: ArrayBuffer): usize {
  return changetype<usize>(buffer);
}

export function write(level: Level, text: string): void {
  const line = utf8(text);
  logWrite(level, start(line), line.byteLength);
}

/** `result<_, string>` in a place of its own: the text must outlive the export's return. */
let refusal: ArrayBuffer = new ArrayBuffer(0);

export function verdict(error: string | null): usize {
  store<u8>(AREA, error === null ? 0 : 1);
  if (error !== null) {
    refusal = utf8(error);
    store<usize>(AREA, start(refusal), 4);
    store<i32>(AREA, refusal.byteLength, 8);
  }
  return AREA;
}

/** `result<list<u8>, string>` */
export function answered(payload: Uint8Array, error: string | null): usize {
  if (error !== null) return verdict(error);
  saved = payload;
  store<u8>(AREA, 0);
  store<usize>(AREA, payload.dataStart, 4);
  store<i32>(AREA, payload.length, 8);
  return AREA;
}

let saved: Uint8Array = new Uint8Array(0);

export function handOver(bytes: Uint8Array): usize {
  saved = bytes;
  store<usize>(AREA, bytes.dataStart);
  store<i32>(AREA, bytes.length, 4);
  return AREA;
}

/** Logs what broke, then ends the instance: what the compiler calls for `throw` and failed checks. */
export function panic(text: string | null, file: string | null, line: u32, column: u32): void {
  const what = text === null ? "failed" : text;
  const place = file === null ? "" : " at " + file + ":" + line.toString();
  write(Level.Error, what + place);
  unreachable();
}
