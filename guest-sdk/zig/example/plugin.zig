//! The tour: every callback and every call of the host, once, in the same words in every language.
//!
//! It greets its peers, tells what it hears, and does what messages of the form {"op": ...} ask for.

const std = @import("std");
const consort = @import("consort");
const clock = consort.clock;
const group = consort.group;
const log = consort.log;
const messages = consort.messages;
const payload = consort.payload;
const Field = payload.Field;

pub const panic = consort.panic;

comptime {
    consort.plugin(@This());
}

const once = 1;
const always = 2;
const never = 3;

var heard: u64 = 0;

fn encoded(fields: []const Field) []const u8 {
    return payload.encode(consort.scratch(), .{ .map = fields }) catch @panic("too deep");
}

fn hello() []const u8 {
    return encoded(&.{
        Field.of("op", .{ .text = "hello" }),
        Field.of("from", .{ .text = group.thisDevice().name }),
    });
}

fn yes(answer: bool) []const u8 {
    return if (answer) "yes" else "no";
}

/// The contract's words for what came of a call.
fn outcome(result: (consort.SendError || consort.WriteError)!void) []const u8 {
    result catch |failure| return consort.describe(failure);
    return "ok";
}

/// Who says hello; empty if it is none.
fn from(message: []const u8) []const u8 {
    const value = payload.decode(consort.scratch(), message) catch return "";
    return value.getText("from") orelse "";
}

fn told(message: []const u8) []const u8 {
    const name = from(message);
    return if (name.len == 0) "no MessagePack" else consort.print("hello from {s}", .{name});
}

fn join(parts: []const []const u8) []const u8 {
    return std.mem.join(consort.scratch(), ",", parts) catch @panic("no memory");
}

pub fn setup() !void {
    if (consort.config.get("refuse")) |why| return consort.refuse("refused: {s}", .{why});
    log.trace("a trace", .{});
    log.debug("a detail", .{});
    const greeting = consort.config.get("greeting") orelse "none";
    log.info("setup: {d} settings, greeting {s}", .{ consort.config.entries().len, greeting });
    clock.wakeAt(clock.now() + 1_000_000, once);
    clock.wakeEvery(10_000_000, always);
    clock.wakeAt(clock.now() + 1_000_000, never);
    clock.cancel(never);
}

pub fn shutdown(reason: consort.Reason) void {
    log.info("shutdown: {s}", .{@tagName(reason)});
}

pub fn promoteLeader(leadership: consort.Leadership) void {
    log.info("promote-leader: {s} in term {d}", .{ leadership.leader.name, leadership.term });
    log.info("broadcast: {s}", .{outcome(messages.broadcast(hello()))});
    log.info("leader-state: hello {s}", .{outcome(consort.leader_state.put("hello", hello(), null))});
    log.info("shared-state: hello {s}", .{outcome(consort.shared_state.put("hello", hello(), null))});
    log.info("counters: tenures {d}", .{consort.counters.add("tenures", 1) catch 0});
}

pub fn demoteLeader() void {
    log.info("demote-leader: leading {s}", .{yes(group.isLeader())});
}

pub fn promoteFollower(leadership: consort.Leadership) void {
    log.info("promote-follower: {s} in term {d}", .{ leadership.leader.name, leadership.term });
    log.info("send-to-leader: {s}", .{outcome(messages.sendToLeader(hello()))});
    const hellos = consort.device_state.collect("hello");
    const names = consort.scratch().alloc([]const u8, hellos.len) catch @panic("no memory");
    for (hellos, names) |entry, *name| name.* = from(entry.value);
    log.info("device-state: hello from {s}", .{join(names)});
}

pub fn demoteFollower() void {
    log.info("demote-follower", .{});
}

pub fn peerAdded(peer: consort.Peer) void {
    log.info("peer-added: {s} of {d}", .{ peer.name, group.peers().len });
    if (peer.is_self) {
        log.info("device-state: hello {s}", .{outcome(consort.device_state.put("hello", hello(), null))});
    } else {
        log.info("send: {s}", .{outcome(messages.send(peer.device, hello()))});
    }
}

pub fn peerRemoved(peer: consort.Peer) void {
    log.info("peer-removed: {s} of {d}", .{ peer.name, group.peers().len });
}

pub fn leaderMessage(message: []const u8, sender: consort.Leadership) void {
    heard += 1;
    log.info("leader-message: {s} in term {d}", .{ told(message), sender.term });
}

const Op = enum { hello, echo, group, time, errors, state, local, fault };

pub fn peerMessage(message: []const u8, sender: consort.Peer) void {
    heard += 1;
    const request = payload.decode(consort.scratch(), message) catch {
        return log.warn("peer-message: no MessagePack", .{});
    };
    const op = std.meta.stringToEnum(Op, request.getText("op") orelse "") orelse {
        return log.warn("peer-message: unknown", .{});
    };
    switch (op) {
        .hello => log.info("peer-message: hello from {s}", .{request.getText("from") orelse "nobody"}),
        .echo => {
            const answer = encoded(&.{
                Field.of("op", .{ .text = "echoed" }),
                Field.of("value", request.get("value") orelse .nil),
            });
            log.info("echo: {s}", .{outcome(messages.send(sender.device, answer))});
        },
        .group => tellGroup(),
        .time => tellTime(),
        .errors => tellErrors(),
        .state => useState(),
        .local => useLocal(),
        .fault => @panic("asked to fail"),
    }
}

pub fn stateChanged(changes: []const consort.Change) void {
    for (changes) |change| {
        const origin = switch (change.origin) {
            .device => |device| consort.print("device {s}", .{device}),
            else => @tagName(change.origin),
        };
        switch (change.outcome) {
            .put => |value| {
                const shown = if (std.mem.eql(u8, change.key, "hello")) told(value) else value;
                log.info("state-changed: {s} {s} put {s}", .{ origin, change.key, shown });
            },
            .counted => |sum| log.info("state-changed: {s} {s} counted {d}", .{ origin, change.key, sum }),
            .deleted => log.info("state-changed: {s} {s} deleted", .{ origin, change.key }),
            .expired => log.info("state-changed: {s} {s} expired", .{ origin, change.key }),
        }
    }
}

pub fn writesSuperseded(keys: []const []const u8) void {
    log.info("writes-superseded: {s}", .{join(keys)});
}

pub fn timer(token: u64, due: u64) void {
    log.info("timer: {d} due {s}", .{ token, yes(due <= clock.now()) });
}

pub fn localRequest(topic: []const u8, message: []const u8) ![]const u8 {
    log.info("local-request: {s} with {d} bytes", .{ topic, message.len });
    if (std.mem.eql(u8, topic, "echo")) return message;
    return consort.refuse("refused: {s}", .{topic});
}

pub fn save() []const u8 {
    log.info("save: {d}", .{heard});
    return encoded(&.{Field.of("heard", .{ .unsigned = heard })});
}

pub fn restore(saved: []const u8, from_version: []const u8) !void {
    const value = payload.decode(consort.scratch(), saved) catch {
        return consort.refuse("restore: no MessagePack", .{});
    };
    if (value.get("heard")) |count| {
        if (count == .unsigned) heard = count.unsigned;
    }
    log.info("restore: {d} from {s}", .{ heard, from_version });
}

fn tellGroup() void {
    const led = if (group.leader()) |leader|
        consort.print("{s} in term {d}", .{ leader.leader.name, leader.term })
    else
        "none";
    log.info("group: leader {s}, leading {s}", .{ led, yes(group.isLeader()) });
    for (group.peers()) |peer| {
        log.info("group: {s} at {s}, self {s}, delta {d}, round trip {d}", .{
            peer.name, peer.address, yes(peer.is_self), peer.clock_delta, peer.round_trip,
        });
    }
}

fn tellTime() void {
    const quality = clock.quality();
    log.info("time: synchronised {s}, bound {d}", .{ yes(quality.synchronised), quality.error_bound });
    log.info("time: {s}", .{yes(clock.now() > 1_600_000_000_000_000)});
}

fn tellErrors() void {
    const large = consort.scratch().alloc(u8, 70_000) catch return;
    log.err("broadcast: {s}", .{outcome(messages.broadcast(hello()))});
    log.err("send: {s}", .{outcome(messages.send("nobody", hello()))});
    log.err("send-to-all: {s}", .{outcome(messages.sendToAll(large))});
    log.err("put: {s}", .{outcome(consort.shared_state.put("", "", null))});
}

/// Writes, reads, lists and deletes one key of a state.
fn tellKeyed(name: []const u8, comptime state: type, key: []const u8, value: []const u8) void {
    log.info("{s}: put {s}", .{ name, outcome(state.put(key, value, null)) });
    var listed: []const u8 = "";
    for (state.entries(key[0..2])) |entry| listed = consort.print("{s}={s}", .{ entry.key, entry.value });
    log.info("{s}: {s} {s} {s}", .{ name, state.get(key) orelse "none", join(state.keys(key[0..2])), listed });
    log.info("{s}: delete {s}", .{ name, outcome(state.delete(key)) });
}

fn useState() void {
    tellKeyed("leader-state", consort.leader_state, "motto", "onward");

    const device = group.thisDevice().device;
    const own = consort.device_state;
    log.info("device-state: put {s}", .{outcome(own.put("mood", "calm", 60_000))});
    var moods: []const u8 = "";
    for (own.collect("mood")) |entry| moods = entry.value;
    log.info("device-state: {s} {s} {s}", .{ own.get(device, "mood") orelse "none", join(own.keys(device, "mo")), moods });
    log.info("device-state: delete {s}", .{outcome(own.delete("mood"))});

    tellKeyed("shared-state", consort.shared_state, "colour", "red");

    log.info("counters: add {d}", .{consort.counters.add("visits", 2) catch 0});
    log.info("counters: {d}", .{consort.counters.get("visits")});
}

fn useLocal() void {
    consort.local.publish("moment", "now", .{});
    consort.local.publish("hello", hello(), .{ .retain = true });
    log.info("local: published yes", .{});
}
