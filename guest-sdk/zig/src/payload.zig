//! MessagePack for payloads, the convention of all Consort SDKs.
//!
//! Values are trees of `Value`. What arrives comes from other devices: `decode` limits the depth
//! and refuses what follows the value. Texts and bytes of a decoded value lie within the payload.

const std = @import("std");
const Allocator = std.mem.Allocator;

/// How deep values may nest.
pub const depth_max = 16;

pub const Value = union(enum) {
    nil,
    boolean: bool,
    /// An integer from 0 upwards.
    unsigned: u64,
    /// An integer below 0.
    signed: i64,
    float: f64,
    text: []const u8,
    binary: []const u8,
    array: []const Value,
    map: []const Field,

    /// The value under `key` of a map; none if this is no map or has no such key.
    pub fn get(value: Value, key: []const u8) ?Value {
        if (value != .map) return null;
        for (value.map) |field| {
            if (field.key == .text and std.mem.eql(u8, field.key.text, key)) return field.value;
        }
        return null;
    }

    /// The text under `key` of a map.
    pub fn getText(value: Value, key: []const u8) ?[]const u8 {
        const found = value.get(key) orelse return null;
        return if (found == .text) found.text else null;
    }
};

pub const Field = struct {
    key: Value,
    value: Value,

    /// A field whose key is a text.
    pub fn of(key: []const u8, value: Value) Field {
        return .{ .key = .{ .text = key }, .value = value };
    }
};

pub const EncodeError = error{ TooDeep, OutOfMemory };
pub const DecodeError = error{ Truncated, TooDeep, Malformed, Trailing, OutOfMemory };

/// A value as MessagePack, in memory of `gpa`.
pub fn encode(gpa: Allocator, value: Value) EncodeError![]const u8 {
    var out: std.ArrayList(u8) = .empty;
    try write(gpa, &out, value, depth_max);
    return out.items;
}

/// The one value in a payload. Arrays and maps are in memory of `gpa`.
pub fn decode(gpa: Allocator, bytes: []const u8) DecodeError!Value {
    var reader: Reader = .{ .gpa = gpa, .rest = bytes };
    const value = try reader.value(depth_max);
    return if (reader.rest.len > 0) error.Trailing else value;
}

fn write(gpa: Allocator, out: *std.ArrayList(u8), value: Value, depth: usize) EncodeError!void {
    switch (value) {
        .nil => try out.append(gpa, 0xc0),
        .boolean => |yes| try out.append(gpa, if (yes) 0xc3 else 0xc2),
        .unsigned => |number| try writeUnsigned(gpa, out, number),
        .signed => |number| try writeSigned(gpa, out, number),
        .float => |number| try put(gpa, out, 0xcb, u64, @bitCast(number)),
        .text => |text| {
            try writeHead(gpa, out, text.len, 0xa0, 32, .{ 0xd9, 0xda, 0xdb });
            try out.appendSlice(gpa, text);
        },
        .binary => |binary| {
            try writeHead(gpa, out, binary.len, 0, 0, .{ 0xc4, 0xc5, 0xc6 });
            try out.appendSlice(gpa, binary);
        },
        .array => |items| {
            if (depth == 0) return error.TooDeep;
            try writeHead(gpa, out, items.len, 0x90, 16, .{ 0, 0xdc, 0xdd });
            for (items) |item| try write(gpa, out, item, depth - 1);
        },
        .map => |fields| {
            if (depth == 0) return error.TooDeep;
            try writeHead(gpa, out, fields.len, 0x80, 16, .{ 0, 0xde, 0xdf });
            for (fields) |field| {
                try write(gpa, out, field.key, depth - 1);
                try write(gpa, out, field.value, depth - 1);
            }
        },
    }
}

fn put(gpa: Allocator, out: *std.ArrayList(u8), head: u8, comptime T: type, number: T) EncodeError!void {
    var bytes: [1 + @sizeOf(T)]u8 = undefined;
    bytes[0] = head;
    std.mem.writeInt(T, bytes[1..], number, .big);
    try out.appendSlice(gpa, &bytes);
}

fn writeUnsigned(gpa: Allocator, out: *std.ArrayList(u8), number: u64) EncodeError!void {
    if (number < 0x80) return out.append(gpa, @intCast(number));
    if (number <= 0xff) return put(gpa, out, 0xcc, u8, @intCast(number));
    if (number <= 0xffff) return put(gpa, out, 0xcd, u16, @intCast(number));
    if (number <= 0xffff_ffff) return put(gpa, out, 0xce, u32, @intCast(number));
    return put(gpa, out, 0xcf, u64, number);
}

fn writeSigned(gpa: Allocator, out: *std.ArrayList(u8), number: i64) EncodeError!void {
    if (number >= 0) return writeUnsigned(gpa, out, @intCast(number));
    if (number >= -32) return out.append(gpa, @bitCast(@as(i8, @intCast(number))));
    if (number >= -0x80) return put(gpa, out, 0xd0, i8, @intCast(number));
    if (number >= -0x8000) return put(gpa, out, 0xd1, i16, @intCast(number));
    if (number >= -0x8000_0000) return put(gpa, out, 0xd2, i32, @intCast(number));
    return put(gpa, out, 0xd3, i64, number);
}

/// A length: within the head below `short`, else behind one of three heads, of which arrays and
/// maps lack the first.
fn writeHead(gpa: Allocator, out: *std.ArrayList(u8), length: usize, head: u8, short: usize, long: [3]u8) EncodeError!void {
    if (length < short) return out.append(gpa, head | @as(u8, @intCast(length)));
    if (length <= 0xff and long[0] != 0) return put(gpa, out, long[0], u8, @intCast(length));
    if (length <= 0xffff) return put(gpa, out, long[1], u16, @intCast(length));
    return put(gpa, out, long[2], u32, @intCast(length));
}

const Reader = struct {
    gpa: Allocator,
    rest: []const u8,

    fn take(reader: *Reader, count: usize) DecodeError![]const u8 {
        if (count > reader.rest.len) return error.Truncated;
        defer reader.rest = reader.rest[count..];
        return reader.rest[0..count];
    }

    fn number(reader: *Reader, comptime T: type) DecodeError!T {
        const bytes = try reader.take(@sizeOf(T));
        return std.mem.readInt(T, bytes[0..@sizeOf(T)], .big);
    }

    fn text(reader: *Reader, length: usize) DecodeError!Value {
        const bytes = try reader.take(length);
        return if (std.unicode.utf8ValidateSlice(bytes)) .{ .text = bytes } else error.Malformed;
    }

    fn binary(reader: *Reader, length: usize) DecodeError!Value {
        return .{ .binary = try reader.take(length) };
    }

    fn value(reader: *Reader, depth: usize) DecodeError!Value {
        const head = try reader.number(u8);
        return switch (head) {
            0x00...0x7f => .{ .unsigned = head },
            0x80...0x8f => reader.map(head & 0x0f, depth),
            0x90...0x9f => reader.array(head & 0x0f, depth),
            0xa0...0xbf => reader.text(head & 0x1f),
            0xc0 => .nil,
            0xc2, 0xc3 => .{ .boolean = head == 0xc3 },
            0xc4 => reader.binary(try reader.number(u8)),
            0xc5 => reader.binary(try reader.number(u16)),
            0xc6 => reader.binary(try reader.number(u32)),
            0xca => .{ .float = @as(f32, @bitCast(try reader.number(u32))) },
            0xcb => .{ .float = @bitCast(try reader.number(u64)) },
            0xcc => .{ .unsigned = try reader.number(u8) },
            0xcd => .{ .unsigned = try reader.number(u16) },
            0xce => .{ .unsigned = try reader.number(u32) },
            0xcf => .{ .unsigned = try reader.number(u64) },
            0xd0 => integer(try reader.number(i8)),
            0xd1 => integer(try reader.number(i16)),
            0xd2 => integer(try reader.number(i32)),
            0xd3 => integer(try reader.number(i64)),
            0xd9 => reader.text(try reader.number(u8)),
            0xda => reader.text(try reader.number(u16)),
            0xdb => reader.text(try reader.number(u32)),
            0xdc => reader.array(try reader.number(u16), depth),
            0xdd => reader.array(try reader.number(u32), depth),
            0xde => reader.map(try reader.number(u16), depth),
            0xdf => reader.map(try reader.number(u32), depth),
            0xe0...0xff => .{ .signed = @as(i8, @bitCast(head)) },
            else => error.Malformed,
        };
    }

    fn integer(given: i64) Value {
        return if (given < 0) .{ .signed = given } else .{ .unsigned = @intCast(given) };
    }

    // Room is made as values come, not as the payload claims.
    fn array(reader: *Reader, count: usize, depth: usize) DecodeError!Value {
        if (depth == 0) return error.TooDeep;
        var items: std.ArrayList(Value) = .empty;
        for (0..count) |_| try items.append(reader.gpa, try reader.value(depth - 1));
        return .{ .array = items.items };
    }

    fn map(reader: *Reader, count: usize, depth: usize) DecodeError!Value {
        if (depth == 0) return error.TooDeep;
        var fields: std.ArrayList(Field) = .empty;
        for (0..count) |_| {
            const key = try reader.value(depth - 1);
            try fields.append(reader.gpa, .{ .key = key, .value = try reader.value(depth - 1) });
        }
        return .{ .map = fields.items };
    }
};
