/*
 * MessagePack for payloads, the convention of all Consort SDKs.
 *
 * A `Writer` writes value by value. `decode` gives a tree, or null for what is no MessagePack:
 * payloads come from other devices, so depth is limited and nothing may follow the value.
 */

/** How deep values may nest. */
export const DEPTH_MAX: i32 = 16;

export enum Kind {
  Nil,
  Bool,
  /** An integer from 0 upwards, in `unsigned`. */
  Unsigned,
  /** An integer below 0, in `signed`. */
  Signed,
  Float,
  Text,
  Binary,
  Array,
  Map,
}

export class Value {
  constructor(public kind: Kind) {}
  bool: bool = false;
  unsigned: u64 = 0;
  signed: i64 = 0;
  float: f64 = 0;
  text: string = "";
  binary: Uint8Array = EMPTY;
  /** Elements of an array; keys and values of a map by turns. */
  items: Value[] = NONE;

  /** The value under a key of a map; null if this is no map or has no such key. */
  get(key: string): Value | null {
    if (this.kind != Kind.Map) return null;
    for (let i = 0; i < this.items.length; i += 2) {
      const name = this.items[i];
      if (name.kind == Kind.Text && name.text == key) return this.items[i + 1];
    }
    return null;
  }

  /** The text under a key of a map. */
  getText(key: string): string | null {
    const value = this.get(key);
    return value !== null && value.kind == Kind.Text ? value.text : null;
  }
}

const EMPTY = new Uint8Array(0);
const NONE: Value[] = [];

export class Writer {
  private data: Uint8Array = new Uint8Array(64);
  private length: i32 = 0;

  /** What was written. */
  done(): Uint8Array {
    return this.data.slice(0, this.length);
  }

  private room(count: i32): usize {
    const needed = this.length + count;
    if (needed > this.data.length) {
      const larger = new Uint8Array(max(needed, 2 * this.data.length));
      memory.copy(larger.dataStart, this.data.dataStart, this.length);
      this.data = larger;
    }
    const at = this.data.dataStart + this.length;
    this.length = needed;
    return at;
  }

  /** A head byte and the lowest bytes of a number, the highest of them first. */
  private put(head: i32, number: u64, size: i32): Writer {
    const at = this.room(1 + size);
    store<u8>(at, <u8>head);
    for (let i = 0; i < size; i++) store<u8>(at + 1 + i, <u8>(number >> (8 * (size - 1 - i))));
    return this;
  }

  private bytes(from: usize, length: i32): Writer {
    memory.copy(this.room(length), from, length);
    return this;
  }

  nil(): Writer {
    return this.put(0xc0, 0, 0);
  }

  bool(value: bool): Writer {
    return this.put(value ? 0xc3 : 0xc2, 0, 0);
  }

  unsigned(value: u64): Writer {
    if (value < 0x80) return this.put(<i32>value, 0, 0);
    if (value <= 0xff) return this.put(0xcc, value, 1);
    if (value <= 0xffff) return this.put(0xcd, value, 2);
    if (value <= 0xffffffff) return this.put(0xce, value, 4);
    return this.put(0xcf, value, 8);
  }

  signed(value: i64): Writer {
    if (value >= 0) return this.unsigned(<u64>value);
    if (value >= -32) return this.put(<i32>(value & 0xff), 0, 0);
    if (value >= -0x80) return this.put(0xd0, <u64>value, 1);
    if (value >= -0x8000) return this.put(0xd1, <u64>value, 2);
    if (value >= -0x80000000) return this.put(0xd2, <u64>value, 4);
    return this.put(0xd3, <u64>value, 8);
  }

  float(value: f64): Writer {
    return this.put(0xcb, reinterpret<u64>(value), 8);
  }

  text(value: string): Writer {
    const utf8 = String.UTF8.encode(value);
    const length = utf8.byteLength;
    if (length < 32) this.put(0xa0 | length, 0, 0);
    else if (length <= 0xff) this.put(0xd9, length, 1);
    else if (length <= 0xffff) this.put(0xda, length, 2);
    else this.put(0xdb, length, 4);
    return this.bytes(changetype<usize>(utf8), length);
  }

  binary(value: Uint8Array): Writer {
    const length = value.length;
    if (length <= 0xff) this.put(0xc4, length, 1);
    else if (length <= 0xffff) this.put(0xc5, length, 2);
    else this.put(0xc6, length, 4);
    return this.bytes(value.dataStart, length);
  }

  private count(count: i32, small: i32, large: i32): Writer {
    if (count < 16) return this.put(small | count, 0, 0);
    if (count <= 0xffff) return this.put(large, count, 2);
    return this.put(large + 1, count, 4);
  }

  /** The head of an array; that many values follow. */
  array(count: i32): Writer {
    return this.count(count, 0x90, 0xdc);
  }

  /** The head of a map; that many pairs of key and value follow. */
  map(count: i32): Writer {
    return this.count(count, 0x80, 0xde);
  }

  /** A whole tree. */
  value(value: Value): Writer {
    switch (value.kind) {
      case Kind.Nil:
        return this.nil();
      case Kind.Bool:
        return this.bool(value.bool);
      case Kind.Unsigned:
        return this.unsigned(value.unsigned);
      case Kind.Signed:
        return this.signed(value.signed);
      case Kind.Float:
        return this.float(value.float);
      case Kind.Text:
        return this.text(value.text);
      case Kind.Binary:
        return this.binary(value.binary);
      case Kind.Array:
        this.array(value.items.length);
        break;
      default:
        this.map(value.items.length / 2);
    }
    for (let i = 0; i < value.items.length; i++) this.value(value.items[i]);
    return this;
  }
}

/** The one value in a payload; null if it is not one sound value. */
export function decode(payload: Uint8Array): Value | null {
  const reader = new Reader(payload);
  const value = reader.value(DEPTH_MAX);
  return reader.left() == 0 ? value : null;
}

class Reader {
  private at: i32 = 0;

  constructor(private payload: Uint8Array) {}

  left(): i32 {
    return this.payload.length - this.at;
  }

  /** Whether so many bytes were there; `start` of them is behind. */
  private has(count: u64): bool {
    return count <= <u64>this.left();
  }

  private take(count: i32): usize {
    const at = this.payload.dataStart + this.at;
    this.at += count;
    return at;
  }

  /** A number whose size was checked. */
  private number(size: i32): u64 {
    const at = this.take(size);
    let value: u64 = 0;
    for (let i = 0; i < size; i++) value = (value << 8) | load<u8>(at + i);
    return value;
  }

  value(depth: i32): Value | null {
    if (!this.has(1)) return null;
    const head = <i32>this.number(1);
    if (head < 0x80) return unsigned(head);
    if (head < 0x90) return this.items(Kind.Map, 2 * (head & 0x0f), depth);
    if (head < 0xa0) return this.items(Kind.Array, head & 0x0f, depth);
    if (head < 0xc0) return this.text(head & 0x1f);
    if (head >= 0xe0) return signed(head - 0x100);
    if (head == 0xc0) return new Value(Kind.Nil);
    if (head == 0xc2 || head == 0xc3) {
      const value = new Value(Kind.Bool);
      value.bool = head == 0xc3;
      return value;
    }
    return this.longForm(head, depth);
  }

  /** A value whose head is followed by a number of the size that the head names. */
  private longForm(head: i32, depth: i32): Value | null {
    const size = sizeBehind(head);
    if (size == 0 || !this.has(size)) return null;
    const number = this.number(size);
    if (head <= 0xc6) return this.binary(number);
    if (head <= 0xcb) {
      const value = new Value(Kind.Float);
      value.float = size == 4 ? <f64>reinterpret<f32>(<u32>number) : reinterpret<f64>(number);
      return value;
    }
    if (head <= 0xcf) return unsigned(number);
    if (head <= 0xd3) {
      const unused = 64 - 8 * size;
      return signed((<i64>(number << unused)) >> unused);
    }
    if (head <= 0xdb) return this.text(number);
    if (head <= 0xdd) return this.items(Kind.Array, number, depth);
    return this.items(Kind.Map, 2 * number, depth);
  }

  private text(length: u64): Value | null {
    if (!this.has(length)) return null;
    const at = this.take(<i32>length);
    if (!wellFormed(at, <i32>length)) return null;
    const value = new Value(Kind.Text);
    value.text = String.UTF8.decodeUnsafe(at, <i32>length);
    return value;
  }

  private binary(length: u64): Value | null {
    if (!this.has(length)) return null;
    const value = new Value(Kind.Binary);
    value.binary = new Uint8Array(<i32>length);
    memory.copy(value.binary.dataStart, this.take(<i32>length), <i32>length);
    return value;
  }

  /** Room is made as values come, not as the payload claims. */
  private items(kind: Kind, count: u64, depth: i32): Value | null {
    if (depth == 0) return null;
    const value = new Value(kind);
    value.items = [];
    for (let i: u64 = 0; i < count; i++) {
      const item = this.value(depth - 1);
      if (item === null) return null;
      value.items.push(item);
    }
    return value;
  }
}

function sizeBehind(head: i32): i32 {
  if (head >= 0xc4 && head <= 0xc6) return 1 << (head - 0xc4);
  if (head == 0xca) return 4;
  if (head == 0xcb) return 8;
  if (head >= 0xcc && head <= 0xcf) return 1 << (head - 0xcc);
  if (head >= 0xd0 && head <= 0xd3) return 1 << (head - 0xd0);
  if (head >= 0xd9 && head <= 0xdb) return 1 << (head - 0xd9);
  if (head >= 0xdc && head <= 0xdf) return head & 1 ? 4 : 2;
  return 0;
}

function unsigned(number: u64): Value {
  const value = new Value(Kind.Unsigned);
  value.unsigned = number;
  return value;
}

function signed(number: i64): Value {
  if (number >= 0) return unsigned(<u64>number);
  const value = new Value(Kind.Signed);
  value.signed = number;
  return value;
}

function wellFormed(start: usize, length: i32): bool {
  let at = start;
  const end = start + length;
  while (at < end) {
    const head = <i32>load<u8>(at++);
    if (head < 0x80) continue;
    const more = head >= 0xf0 ? 3 : head >= 0xe0 ? 2 : 1;
    if (head < 0xc2 || head > 0xf4 || <i32>(end - at) < more) return false;
    let point = head & (0x3f >> more);
    for (let i = 0; i < more; i++) {
      const byte = <i32>load<u8>(at++);
      if ((byte & 0xc0) != 0x80) return false;
      point = (point << 6) | (byte & 0x3f);
    }
    const least = more == 1 ? 0x80 : more == 2 ? 0x800 : 0x10000;
    if (point < least || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return false;
  }
  return true;
}
