//! The contract's imports in the canonical ABI of the component model, and the records that cross
//! it. Whoever changes wit/ changes this file: offsets follow from the records there.

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

pub const Pair = extern struct { first: Bytes, second: Bytes };

pub const Peer = extern struct {
    device: Bytes,
    name: Bytes,
    address: Bytes,
    is_self: bool,
    clock_delta: i64 align(8),
    round_trip: u32,
};

pub const Leadership = extern struct { leader: Peer, term: u64 align(8) };

pub fn Option(comptime T: type) type {
    return extern struct { some: bool, value: T };
}

/// `result<_, send-error>`
pub const Sent = extern struct { failed: bool, reason: u8 align(4), limit: u32 };

/// `result<_, write-error>`
pub const Written = extern struct { failed: bool, reason: u8 align(8), limit: u64 align(8) };

/// `result<s64, write-error>`: `value` is the sum, or its first byte the reason.
pub const Added = extern struct { failed: bool, value: i64 align(8), limit: u64 align(8) };

pub const Quality = extern struct { synchronised: bool, error_bound: u64 align(8) };

/// `change`: the cases of `origin` and `outcome` share their memory.
pub const Change = extern struct {
    origin: u8,
    device: Bytes,
    key: Bytes,
    outcome: u8 align(8),
    value: extern union { put: Bytes, counted: i64 } align(8),
};

/// `result<_, string>`
pub const Refusal = extern struct { failed: bool, text: Bytes };

/// `result<list<u8>, string>`: the answer, or why there is none.
pub const Answer = Refusal;

comptime {
    const assert = @import("std").debug.assert;
    assert(@sizeOf(Peer) == 48 and @sizeOf(Leadership) == 56);
    assert(@offsetOf(Option(Leadership), "value") == 8 and @offsetOf(Option(Bytes), "value") == 4);
    assert(@sizeOf(Change) == 40 and @offsetOf(Change, "key") == 12);
    assert(@offsetOf(Change, "outcome") == 24 and @offsetOf(Change, "value") == 32);
    assert(@sizeOf(Sent) == 12 and @sizeOf(Written) == 24);
}

pub const log = struct {
    pub extern "consort:plugin/log@0.1.0" fn write(level: u32, [*]const u8, usize) void;
};

pub const config = struct {
    pub extern "consort:plugin/config@0.1.0" fn get([*]const u8, usize, *Option(Bytes)) void;
    pub extern "consort:plugin/config@0.1.0" fn entries(*List(Pair)) void;
};

pub const group = struct {
    pub extern "consort:plugin/group@0.1.0" fn @"this-device"(*Peer) void;
    pub extern "consort:plugin/group@0.1.0" fn peers(*List(Peer)) void;
    pub extern "consort:plugin/group@0.1.0" fn leader(*Option(Leadership)) void;
    pub extern "consort:plugin/group@0.1.0" fn @"is-leader"() u32;
};

pub const messages = struct {
    pub extern "consort:plugin/messages@0.1.0" fn broadcast([*]const u8, usize, *Sent) void;
    pub extern "consort:plugin/messages@0.1.0" fn @"send-to-leader"([*]const u8, usize, *Sent) void;
    pub extern "consort:plugin/messages@0.1.0" fn send([*]const u8, usize, [*]const u8, usize, *Sent) void;
    pub extern "consort:plugin/messages@0.1.0" fn @"send-to-all"([*]const u8, usize, *Sent) void;
};

pub const leader_state = struct {
    pub extern "consort:plugin/leader-state@0.1.0" fn get([*]const u8, usize, *Option(Bytes)) void;
    pub extern "consort:plugin/leader-state@0.1.0" fn keys([*]const u8, usize, *List(Bytes)) void;
    pub extern "consort:plugin/leader-state@0.1.0" fn entries([*]const u8, usize, *List(Pair)) void;
    pub extern "consort:plugin/leader-state@0.1.0" fn put([*]const u8, usize, [*]const u8, usize, u32, u64, *Written) void;
    pub extern "consort:plugin/leader-state@0.1.0" fn delete([*]const u8, usize, *Written) void;
};

pub const shared_state = struct {
    pub extern "consort:plugin/shared-state@0.1.0" fn get([*]const u8, usize, *Option(Bytes)) void;
    pub extern "consort:plugin/shared-state@0.1.0" fn keys([*]const u8, usize, *List(Bytes)) void;
    pub extern "consort:plugin/shared-state@0.1.0" fn entries([*]const u8, usize, *List(Pair)) void;
    pub extern "consort:plugin/shared-state@0.1.0" fn put([*]const u8, usize, [*]const u8, usize, u32, u64, *Written) void;
    pub extern "consort:plugin/shared-state@0.1.0" fn delete([*]const u8, usize, *Written) void;
};

pub const device_state = struct {
    pub extern "consort:plugin/device-state@0.1.0" fn get([*]const u8, usize, [*]const u8, usize, *Option(Bytes)) void;
    pub extern "consort:plugin/device-state@0.1.0" fn collect([*]const u8, usize, *List(Pair)) void;
    pub extern "consort:plugin/device-state@0.1.0" fn keys([*]const u8, usize, [*]const u8, usize, *List(Bytes)) void;
    pub extern "consort:plugin/device-state@0.1.0" fn put([*]const u8, usize, [*]const u8, usize, u32, u64, *Written) void;
    pub extern "consort:plugin/device-state@0.1.0" fn delete([*]const u8, usize, *Written) void;
};

pub const counters = struct {
    pub extern "consort:plugin/counters@0.1.0" fn get([*]const u8, usize) i64;
    pub extern "consort:plugin/counters@0.1.0" fn add([*]const u8, usize, i64, *Added) void;
};

pub const clock = struct {
    pub extern "consort:plugin/clock@0.1.0" fn now() u64;
    pub extern "consort:plugin/clock@0.1.0" fn quality(*Quality) void;
    pub extern "consort:plugin/clock@0.1.0" fn @"wake-at"(u64, u64) void;
    pub extern "consort:plugin/clock@0.1.0" fn @"wake-every"(u64, u64) void;
    pub extern "consort:plugin/clock@0.1.0" fn cancel(u64) void;
};

pub const local = struct {
    pub extern "consort:plugin/local@0.1.0" fn publish([*]const u8, usize, [*]const u8, usize, u32) void;
};
