const std = @import("std");

pub fn build(b: *std.Build) void {
    const target = b.resolveTargetQuery(.{ .cpu_arch = .wasm32, .os_tag = .freestanding });
    const optimize: std.builtin.OptimizeMode = .ReleaseSmall;
    const consort = b.createModule(.{
        .root_source_file = b.path("consort/src/consort.zig"),
        .target = target,
        .optimize = optimize,
    });
    const plugin = b.addExecutable(.{
        .name = "{{name}}",
        .root_module = b.createModule(.{
            .root_source_file = b.path("plugin.zig"),
            .target = target,
            .optimize = optimize,
            .strip = true,
            .imports = &.{.{ .name = "consort", .module = consort }},
        }),
    });
    plugin.entry = .disabled;
    plugin.rdynamic = true;
    plugin.stack_size = 64 << 10;
    b.installArtifact(plugin);
}
