const std = @import("std");

pub fn build(b: *std.Build) void {
    const target = b.resolveTargetQuery(.{ .cpu_arch = .wasm32, .os_tag = .freestanding });
    const optimize: std.builtin.OptimizeMode = .ReleaseSmall;
    const consort = b.createModule(.{
        .root_source_file = b.path("consort/src/consort.zig"),
        .target = target,
        .optimize = optimize,
        .strip = true,
    });
    // A program all of which is stripped loses the functions' names, too, which the host shows when
    // it traps. This empty part is not, so the file has names and next to nothing for debuggers.
    const names = b.createModule(.{
        .root_source_file = b.addWriteFiles().add("names.zig", ""),
        .target = target,
        .optimize = optimize,
        .strip = false,
    });
    const plugin = b.addExecutable(.{
        .name = "{{name}}",
        .root_module = b.createModule(.{
            .root_source_file = b.path("plugin.zig"),
            .target = target,
            .optimize = optimize,
            .strip = true,
            .imports = &.{
                .{ .name = "consort", .module = consort },
                .{ .name = "names", .module = names },
            },
        }),
    });
    plugin.entry = .disabled;
    plugin.rdynamic = true;
    plugin.stack_size = 64 << 10;
    b.installArtifact(plugin);
}
