//! Says who leads, and greets the group when this device does.

const consort = @import("consort");

pub const panic = consort.panic;

comptime {
    consort.plugin(@This());
}

pub fn setup() !void {
    consort.log.info("{{name}} is set up", .{});
}

pub fn promoteLeader(leadership: consort.Leadership) void {
    consort.log.info("leader in term {d}", .{leadership.term});
    greet() catch |failure| consort.log.warn("not greeted: {t}", .{failure});
}

fn greet() !void {
    const Field = consort.payload.Field;
    const message = try consort.payload.encode(consort.scratch(), .{ .map = &.{
        Field.of("greeting", .{ .text = consort.group.thisDevice().name }),
    } });
    try consort.messages.broadcast(message);
}

pub fn promoteFollower(leadership: consort.Leadership) void {
    consort.log.info("following {s}", .{leadership.leader.name});
}

pub fn leaderMessage(message: []const u8, sender: consort.Leadership) void {
    const value = consort.payload.decode(consort.scratch(), message) catch return;
    const name = value.getText("greeting") orelse return;
    consort.log.info("greeted by {s} in term {d}", .{ name, sender.term });
}
