//! What the process does with memory that a plugin, or the work on its file, no longer needs.
//!
//! glibc's allocator takes large blocks from the system one by one and gives each back as it is freed, but
//! raises the size from which it does so to that of the largest block it has seen freed, and keeps twice
//! as much at the end of each of its heaps. One plugin with a large table, or one file of some MiB, is
//! enough for it to keep tens of MiB for good, per heap, that no plugin is charged for. Fixed sizes make
//! what is held what is in use.

#[cfg(target_env = "gnu")]
use nix::libc;
#[cfg(target_env = "gnu")]
use tracing::debug;

/// From how many bytes on a block is the system's own; where glibc begins. What passes through the
/// daemon all the while, messages and state, is smaller.
#[cfg(target_env = "gnu")]
const OWN_BLOCK: libc::c_int = 128 << 10;

/// How much is kept at the end of a heap.
#[cfg(target_env = "gnu")]
const KEPT: libc::c_int = 128 << 10;

/// From here on the process holds little that it does not use. To be called before other threads are
/// started; with another allocator than glibc's it changes nothing.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "the C library's function has no safe form here")]
pub fn give_memory_back() {
    for (parameter, value) in [
        (libc::M_MMAP_THRESHOLD, OWN_BLOCK),
        (libc::M_TRIM_THRESHOLD, KEPT),
    ] {
        // SAFETY: mallopt(3) takes two numbers and sets a parameter of the allocator under its lock.
        if unsafe { libc::mallopt(parameter, value) } == 0 {
            debug!(parameter, "the allocator keeps its own setting");
        }
    }
}

/// From here on the process holds little that it does not use. To be called before other threads are
/// started; with another allocator than glibc's it changes nothing.
#[cfg(not(target_env = "gnu"))]
pub const fn give_memory_back() {}
