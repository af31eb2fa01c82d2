//! The contract's imports in the canonical ABI of the component model, and the types that cross it.
//! Made from wit/ by `cargo run -p consort-tidy --bin bindings`; changes go there.

/// A text or a list of bytes, as the host writes it.
pub const Bytes = extern struct {
    ptr: [*]const u8,
    len: usize,

    pub fn slice(self: Bytes) []const u8 {
        return if (self.len == 0) "" else self.ptr[0..self.len];
    }
};

pub fn List(comptime T: type) type {
    return extern struct {
        ptr: [*]const T,
        len: usize,

        pub fn slice(self: @This()) []const T {
            return if (self.len == 0) &.{} else self.ptr[0..self.len];
        }
    };
}

pub fn Pair(comptime First: type, comptime Second: type) type {
    return extern struct { first: First, second: Second };
}

pub fn Option(comptime T: type) type {
    return extern struct { some: bool, value: T };
}

/// What a result without a value carries.
pub const Nothing = extern struct {};

pub fn Result(comptime Ok: type, comptime Err: type) type {
    return extern struct { failed: bool, payload: extern union { ok: Ok, err: Err } };
}

pub const Level = enum(u8) { trace, debug, info, warn, @"error" };

pub const Peer = extern struct {
    device: Bytes,
    name: Bytes,
    address: Bytes,
    is_self: bool,
    clock_delta: i64,
    round_trip: u32,
};

pub const Leadership = extern struct {
    leader: Peer,
    term: u64,
};

pub const SendError = extern struct {
    tag: enum(u8) { not_leader, no_leader, unknown_peer, too_large, busy },
    payload: extern union { too_large: u32 },
};

pub const WriteError = extern struct {
    tag: enum(u8) { not_leader, invalid_key, too_large, busy },
    payload: extern union { too_large: u64 },
};

pub const Synchronisation = extern struct {
    synchronised: bool,
    error_bound: u64,
};

pub const Reason = enum(u8) { stop, reload, remove };

pub const Origin = extern struct {
    tag: enum(u8) { leader, device, shared, counter },
    payload: extern union { device: Bytes },
};

pub const Outcome = extern struct {
    tag: enum(u8) { put, counted, deleted, expired },
    payload: extern union { put: Bytes, counted: i64 },
};

pub const Change = extern struct {
    origin: Origin,
    key: Bytes,
    outcome: Outcome,
};

comptime {
    const assert = @import("std").debug.assert;
    assert(@sizeOf(Level) == 1);
    assert(@offsetOf(Peer, "device") == 0);
    assert(@offsetOf(Peer, "name") == 8);
    assert(@offsetOf(Peer, "address") == 16);
    assert(@offsetOf(Peer, "is_self") == 24);
    assert(@offsetOf(Peer, "clock_delta") == 32);
    assert(@offsetOf(Peer, "round_trip") == 40);
    assert(@sizeOf(Peer) == 48);
    assert(@offsetOf(Leadership, "leader") == 0);
    assert(@offsetOf(Leadership, "term") == 48);
    assert(@sizeOf(Leadership) == 56);
    assert(@offsetOf(SendError, "payload") == 4);
    assert(@sizeOf(SendError) == 8);
    assert(@offsetOf(WriteError, "payload") == 8);
    assert(@sizeOf(WriteError) == 16);
    assert(@offsetOf(Synchronisation, "synchronised") == 0);
    assert(@offsetOf(Synchronisation, "error_bound") == 8);
    assert(@sizeOf(Synchronisation) == 16);
    assert(@sizeOf(Reason) == 1);
    assert(@offsetOf(Origin, "payload") == 4);
    assert(@sizeOf(Origin) == 12);
    assert(@offsetOf(Outcome, "payload") == 8);
    assert(@sizeOf(Outcome) == 16);
    assert(@offsetOf(Change, "origin") == 0);
    assert(@offsetOf(Change, "key") == 12);
    assert(@offsetOf(Change, "outcome") == 24);
    assert(@sizeOf(Change) == 40);
    assert(@offsetOf(Option(Bytes), "value") == 4);
    assert(@sizeOf(Option(Bytes)) == 12);
    assert(@offsetOf(Option(Leadership), "value") == 8);
    assert(@sizeOf(Option(Leadership)) == 64);
    assert(@offsetOf(Result(Nothing, SendError), "payload") == 4);
    assert(@sizeOf(Result(Nothing, SendError)) == 12);
    assert(@offsetOf(Result(Nothing, WriteError), "payload") == 8);
    assert(@sizeOf(Result(Nothing, WriteError)) == 24);
    assert(@offsetOf(Result(i64, WriteError), "payload") == 8);
    assert(@sizeOf(Result(i64, WriteError)) == 24);
}

pub const log = struct {
    pub extern "consort:plugin/log@0.1.0" fn write(level: u32, message: [*]const u8, message_len: usize) void;
};

pub const config = struct {
    pub extern "consort:plugin/config@0.1.0" fn get(key: [*]const u8, key_len: usize, result: *Option(Bytes)) void;
    pub extern "consort:plugin/config@0.1.0" fn entries(result: *List(Pair(Bytes, Bytes))) void;
};

pub const group = struct {
    pub extern "consort:plugin/group@0.1.0" fn @"this-device"(result: *Peer) void;
    pub extern "consort:plugin/group@0.1.0" fn peers(result: *List(Peer)) void;
    pub extern "consort:plugin/group@0.1.0" fn leader(result: *Option(Leadership)) void;
    pub extern "consort:plugin/group@0.1.0" fn @"is-leader"() u32;
};

pub const messages = struct {
    pub extern "consort:plugin/messages@0.1.0" fn broadcast(payload: [*]const u8, payload_len: usize, result: *Result(Nothing, SendError)) void;
    pub extern "consort:plugin/messages@0.1.0" fn @"send-to-leader"(payload: [*]const u8, payload_len: usize, result: *Result(Nothing, SendError)) void;
    pub extern "consort:plugin/messages@0.1.0" fn send(to: [*]const u8, to_len: usize, payload: [*]const u8, payload_len: usize, result: *Result(Nothing, SendError)) void;
    pub extern "consort:plugin/messages@0.1.0" fn @"send-to-all"(payload: [*]const u8, payload_len: usize, result: *Result(Nothing, SendError)) void;
};

pub const leader_state = struct {
    pub extern "consort:plugin/leader-state@0.1.0" fn get(key: [*]const u8, key_len: usize, result: *Option(Bytes)) void;
    pub extern "consort:plugin/leader-state@0.1.0" fn keys(prefix: [*]const u8, prefix_len: usize, result: *List(Bytes)) void;
    pub extern "consort:plugin/leader-state@0.1.0" fn entries(prefix: [*]const u8, prefix_len: usize, result: *List(Pair(Bytes, Bytes))) void;
    pub extern "consort:plugin/leader-state@0.1.0" fn put(key: [*]const u8, key_len: usize, value: [*]const u8, value_len: usize, ttl_some: u32, ttl: u64, result: *Result(Nothing, WriteError)) void;
    pub extern "consort:plugin/leader-state@0.1.0" fn delete(key: [*]const u8, key_len: usize, result: *Result(Nothing, WriteError)) void;
};

pub const device_state = struct {
    pub extern "consort:plugin/device-state@0.1.0" fn get(device: [*]const u8, device_len: usize, key: [*]const u8, key_len: usize, result: *Option(Bytes)) void;
    pub extern "consort:plugin/device-state@0.1.0" fn collect(key: [*]const u8, key_len: usize, result: *List(Pair(Bytes, Bytes))) void;
    pub extern "consort:plugin/device-state@0.1.0" fn keys(device: [*]const u8, device_len: usize, prefix: [*]const u8, prefix_len: usize, result: *List(Bytes)) void;
    pub extern "consort:plugin/device-state@0.1.0" fn put(key: [*]const u8, key_len: usize, value: [*]const u8, value_len: usize, ttl_some: u32, ttl: u64, result: *Result(Nothing, WriteError)) void;
    pub extern "consort:plugin/device-state@0.1.0" fn delete(key: [*]const u8, key_len: usize, result: *Result(Nothing, WriteError)) void;
};

pub const shared_state = struct {
    pub extern "consort:plugin/shared-state@0.1.0" fn get(key: [*]const u8, key_len: usize, result: *Option(Bytes)) void;
    pub extern "consort:plugin/shared-state@0.1.0" fn keys(prefix: [*]const u8, prefix_len: usize, result: *List(Bytes)) void;
    pub extern "consort:plugin/shared-state@0.1.0" fn entries(prefix: [*]const u8, prefix_len: usize, result: *List(Pair(Bytes, Bytes))) void;
    pub extern "consort:plugin/shared-state@0.1.0" fn put(key: [*]const u8, key_len: usize, value: [*]const u8, value_len: usize, ttl_some: u32, ttl: u64, result: *Result(Nothing, WriteError)) void;
    pub extern "consort:plugin/shared-state@0.1.0" fn delete(key: [*]const u8, key_len: usize, result: *Result(Nothing, WriteError)) void;
};

pub const counters = struct {
    pub extern "consort:plugin/counters@0.1.0" fn get(name: [*]const u8, name_len: usize) i64;
    pub extern "consort:plugin/counters@0.1.0" fn add(name: [*]const u8, name_len: usize, delta: i64, result: *Result(i64, WriteError)) void;
};

pub const clock = struct {
    pub extern "consort:plugin/clock@0.1.0" fn now() u64;
    pub extern "consort:plugin/clock@0.1.0" fn quality(result: *Synchronisation) void;
    pub extern "consort:plugin/clock@0.1.0" fn @"wake-at"(at: u64, token: u64) void;
    pub extern "consort:plugin/clock@0.1.0" fn @"wake-every"(period: u64, token: u64) void;
    pub extern "consort:plugin/clock@0.1.0" fn cancel(token: u64) void;
};

pub const local = struct {
    pub extern "consort:plugin/local@0.1.0" fn publish(topic: [*]const u8, topic_len: usize, payload: [*]const u8, payload_len: usize, retain: u32) void;
};
