//! Write Consort plugins in Zig.
//!
//! A plugin is a file whose public functions are the callbacks that it wants:
//!
//!     const consort = @import("consort");
//!     pub const panic = consort.panic;
//!     comptime { consort.plugin(@This()); }
//!
//!     pub fn promoteLeader(leadership: consort.Leadership) void {
//!         consort.log.info("leader in term {d}", .{leadership.term});
//!     }
//!
//! The callbacks are setup, shutdown, promoteLeader, demoteLeader, promoteFollower, demoteFollower,
//! peerAdded, peerRemoved, leaderMessage, peerMessage, stateChanged, writesSuperseded, timer,
//! localRequest, save and restore; the example shows their types. The host calls one at a time.
//!
//! What the host passes in or returns lives until the callback ends, in `scratch`: copy what is to
//! stay into memory of `allocator`.

const std = @import("std");
const host = @import("host.zig");

pub const payload = @import("payload.zig");

/// Memory that the plugin frees itself.
pub const allocator = std.heap.wasm_allocator;

var arena: std.heap.ArenaAllocator = .init(std.heap.wasm_allocator);

/// Memory that is freed when the callback ends.
pub fn scratch() std.mem.Allocator {
    return arena.allocator();
}

// ---- Types. ----

/// A device that runs this plugin and is alive in the group.
pub const Peer = struct {
    /// Its identity; it survives restarts, renames and changes of address.
    device: []const u8,
    /// From the device's own configuration; not unique.
    name: []const u8,
    /// Where it was last heard from.
    address: []const u8,
    is_self: bool,
    /// Its wall clock minus this device's, in microseconds.
    clock_delta: i64,
    /// Smoothed round trip in microseconds; 0 for this device.
    round_trip: u32,

    fn from(peer: host.Peer) Peer {
        return .{
            .device = peer.device.slice(),
            .name = peer.name.slice(),
            .address = peer.address.slice(),
            .is_self = peer.is_self,
            .clock_delta = peer.clock_delta,
            .round_trip = peer.round_trip,
        };
    }
};

/// One tenure of one leader; `term` grows with every change of leader.
pub const Leadership = struct {
    leader: Peer,
    term: u64,

    fn from(leadership: host.Leadership) Leadership {
        return .{ .leader = .from(leadership.leader), .term = leadership.term };
    }
};

/// Why a plugin is unloaded.
pub const Reason = host.Reason;

/// One key of the state that changed.
pub const Change = struct {
    origin: union(enum) { leader, device: []const u8, shared, counter },
    key: []const u8,
    outcome: union(enum) { put: []const u8, counted: i64, deleted, expired },

    fn from(change: host.Change) Change {
        return .{
            .origin = switch (change.origin.tag) {
                .leader => .leader,
                .device => .{ .device = change.origin.payload.device.slice() },
                .shared => .shared,
                .counter => .counter,
            },
            .key = change.key.slice(),
            .outcome = switch (change.outcome.tag) {
                .put => .{ .put = change.outcome.payload.put.slice() },
                .counted => .{ .counted = change.outcome.payload.counted },
                .deleted => .deleted,
                .expired => .expired,
            },
        };
    }
};

pub const Entry = struct { key: []const u8, value: []const u8 };

/// Why the host did nothing. For `TooLarge`, `limit` has the bound in bytes.
pub const SendError = error{ NotLeader, NoLeader, UnknownPeer, TooLarge, Busy };
pub const WriteError = error{ NotLeader, InvalidKey, TooLarge, Busy };

/// The bound that the last `error.TooLarge` is about, in bytes.
pub var limit: u64 = 0;

/// The contract's words for an error of the host.
pub fn describe(failure: (SendError || WriteError)) []const u8 {
    return switch (failure) {
        error.NotLeader => "not-leader",
        error.NoLeader => "no-leader",
        error.UnknownPeer => "unknown-peer",
        error.InvalidKey => "invalid-key",
        error.TooLarge => print("too-large {d}", .{limit}),
        error.Busy => "busy",
    };
}

/// A text in `scratch`.
pub fn print(comptime format: []const u8, values: anytype) []const u8 {
    return scratch().print(format, values) catch @panic("no memory for a text");
}

var refusal: []const u8 = "";

/// The error to return from `setup`, `localRequest` or `restore`, with its text.
pub fn refuse(comptime format: []const u8, values: anytype) error{Refused} {
    refusal = print(format, values);
    return error.Refused;
}

// ---- What a plugin may call. ----

/// The host's log, tagged with this plugin's id.
pub const log = struct {
    fn write(level: host.Level, comptime format: []const u8, values: anytype) void {
        const line = print(format, values);
        host.log.write(@backingInt(level), line.ptr, line.len);
    }
    pub fn trace(comptime format: []const u8, values: anytype) void {
        write(.trace, format, values);
    }
    pub fn debug(comptime format: []const u8, values: anytype) void {
        write(.debug, format, values);
    }
    pub fn info(comptime format: []const u8, values: anytype) void {
        write(.info, format, values);
    }
    pub fn warn(comptime format: []const u8, values: anytype) void {
        write(.warn, format, values);
    }
    pub fn err(comptime format: []const u8, values: anytype) void {
        write(.@"error", format, values);
    }
};

/// The `[config]` table of this plugin.
pub const config = struct {
    pub fn get(key: []const u8) ?[]const u8 {
        var value: host.Option(host.Bytes) = undefined;
        host.config.get(key.ptr, key.len, &value);
        return optional(value);
    }
    pub fn entries() []const Entry {
        var pairs: host.List(host.Pair(host.Bytes, host.Bytes)) = undefined;
        host.config.entries(&pairs);
        return entriesOf(pairs);
    }
};

/// Who is in the group, as this device sees it.
pub const group = struct {
    pub fn thisDevice() Peer {
        var peer: host.Peer = undefined;
        host.group.@"this-device"(&peer);
        return .from(peer);
    }
    /// Every member that runs this plugin, this device included, ordered by device id.
    pub fn peers() []const Peer {
        var list: host.List(host.Peer) = undefined;
        host.group.peers(&list);
        const all = list.slice();
        const converted = alloc(Peer, all.len);
        for (all, converted) |peer, *to| to.* = .from(peer);
        return converted;
    }
    /// The leader as this device knows it; none while an election is under way.
    pub fn leader() ?Leadership {
        var found: host.Option(host.Leadership) = undefined;
        host.group.leader(&found);
        return if (found.some) .from(found.value) else null;
    }
    pub fn isLeader() bool {
        return host.group.@"is-leader"() != 0;
    }
};

/// Messages arrive at most once and in no order; a lost one is not resent.
pub const messages = struct {
    /// Leader to every member, this device included.
    pub fn broadcast(message: []const u8) SendError!void {
        var result: Sent = undefined;
        host.messages.broadcast(message.ptr, message.len, &result);
        return sent(result);
    }
    /// Any member to the leader; on the leader itself a local delivery.
    pub fn sendToLeader(message: []const u8) SendError!void {
        var result: Sent = undefined;
        host.messages.@"send-to-leader"(message.ptr, message.len, &result);
        return sent(result);
    }
    /// Any member to the member with this device id.
    pub fn send(to: []const u8, message: []const u8) SendError!void {
        var result: Sent = undefined;
        host.messages.send(to.ptr, to.len, message.ptr, message.len, &result);
        return sent(result);
    }
    /// Any member to every member, this device included.
    pub fn sendToAll(message: []const u8) SendError!void {
        var result: Sent = undefined;
        host.messages.@"send-to-all"(message.ptr, message.len, &result);
        return sent(result);
    }
};

/// Written by the leader and read by everyone. It outlives its leader.
pub const leader_state = KeyedState(host.leader_state);

/// Written by anyone; of two writes the later one wins on every device.
pub const shared_state = KeyedState(host.shared_state);

/// State by key. `ttl` counts in milliseconds, after which the entry expires everywhere.
fn KeyedState(comptime imports: type) type {
    return struct {
        pub fn get(key: []const u8) ?[]const u8 {
            var value: host.Option(host.Bytes) = undefined;
            imports.get(key.ptr, key.len, &value);
            return optional(value);
        }
        /// Those that begin with `prefix`, in order.
        pub fn keys(prefix: []const u8) []const []const u8 {
            var list: host.List(host.Bytes) = undefined;
            imports.keys(prefix.ptr, prefix.len, &list);
            return texts(list);
        }
        /// Those whose keys begin with `prefix`, in order.
        pub fn entries(prefix: []const u8) []const Entry {
            var pairs: host.List(host.Pair(host.Bytes, host.Bytes)) = undefined;
            imports.entries(prefix.ptr, prefix.len, &pairs);
            return entriesOf(pairs);
        }
        pub const put = writes(imports).put;
        pub const delete = writes(imports).delete;
    };
}

/// Written by each device for itself and read by everyone.
pub const device_state = struct {
    pub fn get(device: []const u8, key: []const u8) ?[]const u8 {
        var value: host.Option(host.Bytes) = undefined;
        host.device_state.get(device.ptr, device.len, key.ptr, key.len, &value);
        return optional(value);
    }
    /// The value under `key` of every device that has one; the entries' keys are device ids.
    pub fn collect(key: []const u8) []const Entry {
        var pairs: host.List(host.Pair(host.Bytes, host.Bytes)) = undefined;
        host.device_state.collect(key.ptr, key.len, &pairs);
        return entriesOf(pairs);
    }
    pub fn keys(device: []const u8, prefix: []const u8) []const []const u8 {
        var list: host.List(host.Bytes) = undefined;
        host.device_state.keys(device.ptr, device.len, prefix.ptr, prefix.len, &list);
        return texts(list);
    }
    pub const put = writes(host.device_state).put;
    pub const delete = writes(host.device_state).delete;
};

fn writes(comptime imports: type) type {
    return struct {
        fn put(key: []const u8, value: []const u8, ttl: ?u64) WriteError!void {
            var result: Written = undefined;
            const lives: u32 = if (ttl == null) 0 else 1;
            imports.put(key.ptr, key.len, value.ptr, value.len, lives, ttl orelse 0, &result);
            return written(result);
        }
        fn delete(key: []const u8) WriteError!void {
            var result: Written = undefined;
            imports.delete(key.ptr, key.len, &result);
            return written(result);
        }
    };
}

/// Added to by anyone, also while cut off; no increment is lost or counted twice.
pub const counters = struct {
    pub fn get(name: []const u8) i64 {
        return host.counters.get(name.ptr, name.len);
    }
    /// Gives the sum as this device sees it.
    pub fn add(name: []const u8, delta: i64) WriteError!i64 {
        var result: host.Result(i64, host.WriteError) = undefined;
        host.counters.add(name.ptr, name.len, delta, &result);
        if (result.failed) return refusedWrite(result.payload.err);
        return result.payload.ok;
    }
};

/// The group's shared clock, in microseconds since the Unix epoch, and wake-ups on it.
pub const clock = struct {
    /// It never runs backwards within one run of a plugin.
    pub fn now() u64 {
        return host.clock.now();
    }
    pub const Quality = struct { synchronised: bool, error_bound: u64 };
    pub fn quality() Quality {
        var result: host.Synchronisation = undefined;
        host.clock.quality(&result);
        return .{ .synchronised = result.synchronised, .error_bound = result.error_bound };
    }
    /// Calls `timer` at `at`, or at once if that has passed. A token has one timer.
    pub fn wakeAt(at: u64, token: u64) void {
        host.clock.@"wake-at"(at, token);
    }
    /// Calls `timer` at multiples of `period`, at the same instants on every device.
    pub fn wakeEvery(period: u64, token: u64) void {
        host.clock.@"wake-every"(period, token);
    }
    pub fn cancel(token: u64) void {
        host.clock.cancel(token);
    }
};

/// Programs on this same device that talk to this plugin. A plugin needs the capability `local`.
pub const local = struct {
    pub const Options = struct { retain: bool = false };
    /// To every local subscriber of `topic`; never leaves the device. With `retain`, also to those
    /// that subscribe later, until something else is published there.
    pub fn publish(topic: []const u8, message: []const u8, options: Options) void {
        const retain: u32 = if (options.retain) 1 else 0;
        host.local.publish(topic.ptr, topic.len, message.ptr, message.len, retain);
    }
};

fn alloc(comptime T: type, count: usize) []T {
    return scratch().alloc(T, count) catch @panic("no memory for what the host returned");
}

fn optional(value: host.Option(host.Bytes)) ?[]const u8 {
    return if (value.some) value.value.slice() else null;
}

fn texts(list: host.List(host.Bytes)) []const []const u8 {
    const all = list.slice();
    const converted = alloc([]const u8, all.len);
    for (all, converted) |text, *to| to.* = text.slice();
    return converted;
}

fn entriesOf(pairs: host.List(host.Pair(host.Bytes, host.Bytes))) []const Entry {
    const all = pairs.slice();
    const converted = alloc(Entry, all.len);
    for (all, converted) |pair, *to| to.* = .{ .key = pair.first.slice(), .value = pair.second.slice() };
    return converted;
}

const Sent = host.Result(host.Nothing, host.SendError);
const Written = host.Result(host.Nothing, host.WriteError);

fn sent(result: Sent) SendError!void {
    if (!result.failed) return;
    const why = result.payload.err;
    switch (why.tag) {
        .not_leader => return error.NotLeader,
        .no_leader => return error.NoLeader,
        .unknown_peer => return error.UnknownPeer,
        .too_large => {
            limit = why.payload.too_large;
            return error.TooLarge;
        },
        .busy => return error.Busy,
    }
}

fn written(result: Written) WriteError!void {
    if (result.failed) return refusedWrite(result.payload.err);
}

fn refusedWrite(why: host.WriteError) WriteError {
    switch (why.tag) {
        .not_leader => return error.NotLeader,
        .invalid_key => return error.InvalidKey,
        .too_large => {
            limit = why.payload.too_large;
            return error.TooLarge;
        },
        .busy => return error.Busy,
    }
}

// ---- What the host calls. ----

/// For `pub const panic` in the plugin's file: the text goes to the log before the instance ends.
pub const panic = std.debug.FullPanic(panicked);

fn panicked(text: []const u8, _: ?usize) noreturn {
    host.log.write(@backingInt(host.Level.@"error"), text.ptr, text.len);
    @trap();
}

/// Makes a file's public functions the callbacks of the plugin. Once per program.
pub fn plugin(comptime callbacks: type) void {
    const exports = Exports(callbacks);
    @export(&realloc, .{ .name = "cabi_realloc" });
    @export(&forget, .{ .name = "cabi_post_consort:plugin/lifecycle@0.1.0#setup" });
    @export(&forget, .{ .name = "cabi_post_consort:plugin/local-events@0.1.0#on-local-request" });
    @export(&forget, .{ .name = "cabi_post_consort:plugin/handover@0.1.0#save" });
    @export(&forget, .{ .name = "cabi_post_consort:plugin/handover@0.1.0#restore" });
    for (@typeInfo(exports).@"struct".decl_names) |name| {
        @export(&@field(exports, name), .{ .name = "consort:plugin/" ++ name });
    }
}

fn realloc(old: ?[*]u8, old_size: usize, alignment: usize, size: usize) callconv(.c) [*]u8 {
    if (size == 0) return @ptrFromInt(alignment);
    // The canonical ABI aligns to 8 at most.
    const memory = scratch().alignedAlloc(u8, .@"8", size) catch @panic("no memory for the host");
    if (old) |from| @memcpy(memory[0..@min(old_size, size)], from[0..@min(old_size, size)]);
    return memory.ptr;
}

/// After a result was read.
fn forget(_: *const anyopaque) callconv(.c) void {
    end();
}

fn end() void {
    _ = arena.reset(.{ .retain_with_limit = 256 << 10 });
}

/// `result<_, string>`, and `result<list<u8>, string>` in the same places.
const Answer = host.Result(host.Bytes, host.Bytes);

var refused: Answer = undefined;
var saved_bytes: host.Bytes = undefined;

fn verdict(result: anytype) *const Answer {
    refused = .{ .failed = false, .payload = .{ .ok = .{ .ptr = "", .len = 0 } } };
    result catch |failure| {
        const text = if (failure == error.Refused) refusal else @errorName(failure);
        refused = .{ .failed = true, .payload = .{ .err = .{ .ptr = text.ptr, .len = text.len } } };
    };
    return &refused;
}

/// Calls a callback by its own frame, so that its name is in the backtrace of a trap.
inline fn call(comptime callback: anytype, arguments: anytype) @typeInfo(@TypeOf(callback)).@"fn".return_type.? {
    return @call(.never_inline, callback, arguments);
}

fn Exports(comptime callbacks: type) type {
    return struct {
        pub fn @"lifecycle@0.1.0#setup"() callconv(.c) *const Answer {
            if (!@hasDecl(callbacks, "setup")) return verdict(@as(anyerror!void, {}));
            return verdict(@as(anyerror!void, call(callbacks.setup, .{})));
        }
        pub fn @"lifecycle@0.1.0#shutdown"(reason: u32) callconv(.c) void {
            if (@hasDecl(callbacks, "shutdown")) call(callbacks.shutdown, .{@as(Reason, @fromBackingInt(@intCast(reason)))});
            end();
        }
        pub fn @"role@0.1.0#promote-leader"(
            device: [*]const u8,
            device_len: usize,
            name: [*]const u8,
            name_len: usize,
            address: [*]const u8,
            address_len: usize,
            is_self: u32,
            clock_delta: i64,
            round_trip: u32,
            term: u64,
        ) callconv(.c) void {
            if (@hasDecl(callbacks, "promoteLeader")) {
                const leader = flat(device, device_len, name, name_len, address, address_len, is_self, clock_delta, round_trip);
                call(callbacks.promoteLeader, .{Leadership{ .leader = leader, .term = term }});
            }
            end();
        }
        pub fn @"role@0.1.0#demote-leader"() callconv(.c) void {
            if (@hasDecl(callbacks, "demoteLeader")) call(callbacks.demoteLeader, .{});
            end();
        }
        pub fn @"role@0.1.0#promote-follower"(
            device: [*]const u8,
            device_len: usize,
            name: [*]const u8,
            name_len: usize,
            address: [*]const u8,
            address_len: usize,
            is_self: u32,
            clock_delta: i64,
            round_trip: u32,
            term: u64,
        ) callconv(.c) void {
            if (@hasDecl(callbacks, "promoteFollower")) {
                const leader = flat(device, device_len, name, name_len, address, address_len, is_self, clock_delta, round_trip);
                call(callbacks.promoteFollower, .{Leadership{ .leader = leader, .term = term }});
            }
            end();
        }
        pub fn @"role@0.1.0#demote-follower"() callconv(.c) void {
            if (@hasDecl(callbacks, "demoteFollower")) call(callbacks.demoteFollower, .{});
            end();
        }
        pub fn @"peer-events@0.1.0#on-peer-added"(
            device: [*]const u8,
            device_len: usize,
            name: [*]const u8,
            name_len: usize,
            address: [*]const u8,
            address_len: usize,
            is_self: u32,
            clock_delta: i64,
            round_trip: u32,
        ) callconv(.c) void {
            if (@hasDecl(callbacks, "peerAdded")) {
                call(callbacks.peerAdded, .{flat(device, device_len, name, name_len, address, address_len, is_self, clock_delta, round_trip)});
            }
            end();
        }
        pub fn @"peer-events@0.1.0#on-peer-removed"(
            device: [*]const u8,
            device_len: usize,
            name: [*]const u8,
            name_len: usize,
            address: [*]const u8,
            address_len: usize,
            is_self: u32,
            clock_delta: i64,
            round_trip: u32,
        ) callconv(.c) void {
            if (@hasDecl(callbacks, "peerRemoved")) {
                call(callbacks.peerRemoved, .{flat(device, device_len, name, name_len, address, address_len, is_self, clock_delta, round_trip)});
            }
            end();
        }
        pub fn @"message-events@0.1.0#on-leader-message"(
            message: [*]const u8,
            message_len: usize,
            device: [*]const u8,
            device_len: usize,
            name: [*]const u8,
            name_len: usize,
            address: [*]const u8,
            address_len: usize,
            is_self: u32,
            clock_delta: i64,
            round_trip: u32,
            term: u64,
        ) callconv(.c) void {
            if (@hasDecl(callbacks, "leaderMessage")) {
                const leader = flat(device, device_len, name, name_len, address, address_len, is_self, clock_delta, round_trip);
                const bytes: host.Bytes = .{ .ptr = message, .len = message_len };
                call(callbacks.leaderMessage, .{ bytes.slice(), Leadership{ .leader = leader, .term = term } });
            }
            end();
        }
        pub fn @"message-events@0.1.0#on-peer-message"(
            message: [*]const u8,
            message_len: usize,
            device: [*]const u8,
            device_len: usize,
            name: [*]const u8,
            name_len: usize,
            address: [*]const u8,
            address_len: usize,
            is_self: u32,
            clock_delta: i64,
            round_trip: u32,
        ) callconv(.c) void {
            if (@hasDecl(callbacks, "peerMessage")) {
                const bytes: host.Bytes = .{ .ptr = message, .len = message_len };
                call(callbacks.peerMessage, .{ bytes.slice(), flat(device, device_len, name, name_len, address, address_len, is_self, clock_delta, round_trip) });
            }
            end();
        }
        pub fn @"state-events@0.1.0#on-state-changed"(ptr: [*]const host.Change, len: usize) callconv(.c) void {
            if (@hasDecl(callbacks, "stateChanged")) {
                const changes = alloc(Change, len);
                for (changes, 0..) |*change, index| change.* = .from(ptr[index]);
                call(callbacks.stateChanged, .{changes});
            }
            end();
        }
        pub fn @"state-events@0.1.0#on-writes-superseded"(ptr: [*]const host.Bytes, len: usize) callconv(.c) void {
            if (@hasDecl(callbacks, "writesSuperseded")) {
                call(callbacks.writesSuperseded, .{texts(.{ .ptr = ptr, .len = len })});
            }
            end();
        }
        pub fn @"timers@0.1.0#on-timer"(token: u64, due: u64) callconv(.c) void {
            if (@hasDecl(callbacks, "timer")) call(callbacks.timer, .{ token, due });
            end();
        }
        pub fn @"local-events@0.1.0#on-local-request"(
            topic: [*]const u8,
            topic_len: usize,
            message: [*]const u8,
            message_len: usize,
        ) callconv(.c) *const Answer {
            if (!@hasDecl(callbacks, "localRequest")) {
                return verdict(@as(anyerror!void, refuse("this plugin answers no requests", .{})));
            }
            const name: host.Bytes = .{ .ptr = topic, .len = topic_len };
            const bytes: host.Bytes = .{ .ptr = message, .len = message_len };
            const answer = @as(anyerror![]const u8, call(callbacks.localRequest, .{ name.slice(), bytes.slice() })) catch |failure| {
                return verdict(@as(anyerror!void, failure));
            };
            refused = .{ .failed = false, .payload = .{ .ok = .{ .ptr = answer.ptr, .len = answer.len } } };
            return &refused;
        }
        pub fn @"handover@0.1.0#save"() callconv(.c) *const host.Bytes {
            const saved: []const u8 = if (@hasDecl(callbacks, "save")) call(callbacks.save, .{}) else "";
            saved_bytes = .{ .ptr = saved.ptr, .len = saved.len };
            return &saved_bytes;
        }
        pub fn @"handover@0.1.0#restore"(
            saved: [*]const u8,
            saved_len: usize,
            version: [*]const u8,
            version_len: usize,
        ) callconv(.c) *const Answer {
            if (!@hasDecl(callbacks, "restore")) return verdict(@as(anyerror!void, {}));
            const bytes: host.Bytes = .{ .ptr = saved, .len = saved_len };
            return verdict(@as(anyerror!void, call(callbacks.restore, .{ bytes.slice(), version[0..version_len] })));
        }
    };
}

fn flat(
    device: [*]const u8,
    device_len: usize,
    name: [*]const u8,
    name_len: usize,
    address: [*]const u8,
    address_len: usize,
    is_self: u32,
    clock_delta: i64,
    round_trip: u32,
) Peer {
    return .{
        .device = device[0..device_len],
        .name = name[0..name_len],
        .address = address[0..address_len],
        .is_self = is_self != 0,
        .clock_delta = clock_delta,
        .round_trip = round_trip,
    };
}
