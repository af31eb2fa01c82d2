/** A value that MessagePack holds. */
export type Value =
  | null
  | undefined
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly Value[]
  | { readonly [key: string]: Value }
  | ReadonlyMap<Value, Value>;

/** How deep values may nest. */
export const DEPTH_MAX: number;

/** A value has no MessagePack form. */
export class EncodeError extends Error {}

/** A payload holds no value, or more than one. */
export class DecodeError extends Error {}

/**
 * A value as MessagePack. Whole numbers become integers, so 1.0 is written as 1; a bigint may have
 * 64 bits.
 * @throws {EncodeError}
 */
export function encode(value: Value): Uint8Array;

/**
 * The one value in a payload. Maps become objects without a prototype; integers beyond 2^53 become
 * bigints. What arrives comes from another device: check its shape before trusting it.
 * @throws {DecodeError}
 */
export function decode(payload: Uint8Array): any;
