/*
 * MessagePack for payloads, the convention of all Consort SDKs; payload.d.ts documents it.
 *
 * The engine has no TextEncoder, so UTF-8 is here too.
 */

export const DEPTH_MAX = 16;

export class EncodeError extends Error {}
export class DecodeError extends Error {}

export function encode(value) {
  const writer = new Writer();
  writer.value(value, DEPTH_MAX);
  return writer.bytes.slice(0, writer.length);
}

export function decode(payload) {
  const reader = new Reader(payload);
  const value = reader.value(DEPTH_MAX);
  const rest = payload.length - reader.at;
  if (rest > 0) throw new DecodeError(`${rest} bytes follow the value in the payload`);
  return value;
}

class Writer {
  bytes = new Uint8Array(64);
  length = 0;

  room(count) {
    const needed = this.length + count;
    if (needed > this.bytes.length) {
      const larger = new Uint8Array(Math.max(needed, 2 * this.bytes.length));
      larger.set(this.bytes);
      this.bytes = larger;
    }
    const at = this.length;
    this.length = needed;
    return at;
  }

  byte(value) {
    const at = this.room(1);
    this.bytes[at] = value;
  }

  /** A head byte and a number below 2^32 in `size` bytes. */
  put(head, number, size) {
    this.byte(head);
    const at = this.room(size);
    for (let i = 0; i < size; i++) this.bytes[at + i] = number >>> (8 * (size - 1 - i));
  }

  /** A head byte and eight bytes that `set` writes. */
  wide(head, set) {
    this.byte(head);
    const at = this.room(8);
    set(new DataView(this.bytes.buffer, at, 8));
  }

  append(bytes) {
    const at = this.room(bytes.length);
    this.bytes.set(bytes, at);
  }

  value(value, depth) {
    if (value === null || value === undefined) this.byte(0xc0);
    else if (typeof value === "boolean") this.byte(value ? 0xc3 : 0xc2);
    else if (typeof value === "number") this.number(value);
    else if (typeof value === "bigint") this.big(value);
    else if (typeof value === "string") this.text(value);
    else if (value instanceof Uint8Array) this.binary(value);
    else if (typeof value === "object") this.container(value, depth);
    else throw new EncodeError(`no MessagePack form: ${typeof value}`);
  }

  number(value) {
    if (!Number.isSafeInteger(value) || Object.is(value, -0)) {
      this.wide(0xcb, (view) => view.setFloat64(0, value));
    } else if (value >= 0) {
      if (value < 0x80) this.byte(value);
      else if (value <= 0xff) this.put(0xcc, value, 1);
      else if (value <= 0xffff) this.put(0xcd, value, 2);
      else if (value <= 0xffffffff) this.put(0xce, value, 4);
      else this.wide(0xcf, (view) => view.setBigUint64(0, BigInt(value)));
    } else if (value >= -32) this.byte(value & 0xff);
    else if (value >= -0x80) this.put(0xd0, value, 1);
    else if (value >= -0x8000) this.put(0xd1, value, 2);
    else if (value >= -0x80000000) this.put(0xd2, value, 4);
    else this.wide(0xd3, (view) => view.setBigInt64(0, BigInt(value)));
  }

  big(value) {
    if (BigInt.asIntN(53, value) === value) this.number(Number(value));
    else if (BigInt.asUintN(64, value) === value) {
      this.wide(0xcf, (view) => view.setBigUint64(0, value));
    } else if (BigInt.asIntN(64, value) === value) {
      this.wide(0xd3, (view) => view.setBigInt64(0, value));
    } else throw new EncodeError(`no MessagePack form: ${value} has more than 64 bits`);
  }

  text(value) {
    const bytes = utf8Encode(value);
    const length = bytes.length;
    if (length < 32) this.byte(0xa0 | length);
    else if (length <= 0xff) this.put(0xd9, length, 1);
    else if (length <= 0xffff) this.put(0xda, length, 2);
    else this.put(0xdb, length, 4);
    this.append(bytes);
  }

  binary(value) {
    const length = value.length;
    if (length <= 0xff) this.put(0xc4, length, 1);
    else if (length <= 0xffff) this.put(0xc5, length, 2);
    else this.put(0xc6, length, 4);
    this.append(value);
  }

  count(count, small, large) {
    if (count < 16) this.byte(small | count);
    else if (count <= 0xffff) this.put(large, count, 2);
    else this.put(large + 1, count, 4);
  }

  container(value, depth) {
    if (depth === 0) throw new EncodeError(`the value nests deeper than ${DEPTH_MAX} levels`);
    if (Array.isArray(value)) {
      this.count(value.length, 0x90, 0xdc);
      for (const item of value) this.value(item, depth - 1);
      return;
    }
    const pairs = value instanceof Map ? [...value] : Object.entries(value);
    this.count(pairs.length, 0x80, 0xde);
    for (const [key, item] of pairs) {
      this.value(key, depth - 1);
      this.value(item, depth - 1);
    }
  }
}

class Reader {
  constructor(payload) {
    this.payload = payload;
    this.view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
    this.at = 0;
  }

  take(count) {
    const at = this.at;
    if (count > this.payload.length - at) throw new DecodeError("the payload ends within a value");
    this.at += count;
    return at;
  }

  unsigned(size) {
    const at = this.take(size);
    if (size === 1) return this.view.getUint8(at);
    if (size === 2) return this.view.getUint16(at);
    if (size === 4) return this.view.getUint32(at);
    return narrow(this.view.getBigUint64(at));
  }

  signed(size) {
    const at = this.take(size);
    if (size === 1) return this.view.getInt8(at);
    if (size === 2) return this.view.getInt16(at);
    if (size === 4) return this.view.getInt32(at);
    return narrow(this.view.getBigInt64(at));
  }

  text(length) {
    const at = this.take(length);
    return utf8Decode(this.payload, at, at + length);
  }

  binary(length) {
    const at = this.take(length);
    return this.payload.slice(at, at + length);
  }

  value(depth) {
    const head = this.unsigned(1);
    if (head < 0x80) return head;
    if (head >= 0xe0) return head - 0x100;
    if (head < 0x90) return this.map(head & 0x0f, depth);
    if (head < 0xa0) return this.array(head & 0x0f, depth);
    if (head < 0xc0) return this.text(head & 0x1f);
    return this.longForm(head, depth);
  }

  longForm(head, depth) {
    if (head === 0xc0) return null;
    if (head === 0xc2 || head === 0xc3) return head === 0xc3;
    if (head >= 0xc4 && head <= 0xc6) return this.binary(this.unsigned(1 << (head - 0xc4)));
    if (head === 0xca) return this.view.getFloat32(this.take(4));
    if (head === 0xcb) return this.view.getFloat64(this.take(8));
    if (head >= 0xcc && head <= 0xcf) return this.unsigned(1 << (head - 0xcc));
    if (head >= 0xd0 && head <= 0xd3) return this.signed(1 << (head - 0xd0));
    if (head >= 0xd9 && head <= 0xdb) return this.text(this.unsigned(1 << (head - 0xd9)));
    if (head === 0xdc || head === 0xdd) return this.array(this.unsigned(head === 0xdc ? 2 : 4), depth);
    if (head === 0xde || head === 0xdf) return this.map(this.unsigned(head === 0xde ? 2 : 4), depth);
    throw new DecodeError(`the byte 0x${head.toString(16)} begins no value`);
  }

  enter(depth) {
    if (depth === 0) throw new DecodeError(`the payload nests deeper than ${DEPTH_MAX} levels`);
  }

  array(count, depth) {
    this.enter(depth);
    const items = [];
    for (let i = 0; i < count; i++) items.push(this.value(depth - 1));
    return items;
  }

  /** An object without a prototype, so that no key of a stranger means anything. */
  map(count, depth) {
    this.enter(depth);
    const object = Object.create(null);
    for (let i = 0; i < count; i++) {
      const key = this.value(depth - 1);
      if (typeof key === "object") throw new DecodeError("a key is no plain value");
      object[String(key)] = this.value(depth - 1);
    }
    return object;
  }
}

/** A number where it is exact, else a bigint. */
function narrow(big) {
  return BigInt.asIntN(53, big) === big || BigInt.asUintN(53, big) === big ? Number(big) : big;
}

function utf8Encode(text) {
  const bytes = [];
  for (const letter of text) {
    let point = letter.codePointAt(0);
    // Half of a surrogate pair has no UTF-8 form.
    if (point >= 0xd800 && point <= 0xdfff) point = 0xfffd;
    if (point < 0x80) bytes.push(point);
    else if (point < 0x800) bytes.push(0xc0 | (point >> 6), tail(point));
    else if (point < 0x10000) bytes.push(0xe0 | (point >> 12), tail(point >> 6), tail(point));
    else bytes.push(0xf0 | (point >> 18), tail(point >> 12), tail(point >> 6), tail(point));
  }
  return Uint8Array.from(bytes);
}

function tail(bits) {
  return 0x80 | (bits & 0x3f);
}

const LEAST = [0, 0x80, 0x800, 0x10000];

function utf8Decode(bytes, start, end) {
  const malformed = () => new DecodeError("a text is no UTF-8");
  let text = "";
  for (let at = start; at < end; ) {
    const head = bytes[at++];
    if (head < 0x80) {
      text += String.fromCharCode(head);
      continue;
    }
    const more = head >= 0xf0 ? 3 : head >= 0xe0 ? 2 : 1;
    if (head < 0xc2 || head > 0xf4 || end - at < more) throw malformed();
    let point = head & (0x3f >> more);
    for (let i = 0; i < more; i++) {
      const byte = bytes[at++];
      if ((byte & 0xc0) !== 0x80) throw malformed();
      point = (point << 6) | (byte & 0x3f);
    }
    const surrogate = point >= 0xd800 && point <= 0xdfff;
    if (point < LEAST[more] || point > 0x10ffff || surrogate) throw malformed();
    text += String.fromCodePoint(point);
  }
  return text;
}
