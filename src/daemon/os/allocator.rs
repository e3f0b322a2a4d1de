//! glibc's allocator: how much of what was freed it keeps. Allocators of other systems are left as they are.

/// Settings of the user, which stay as they are.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const VARIABLES: [&str; 3] = ["MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"];
/// Heaps, instead of eight for each processor.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MOST_HEAPS: i32 = 2;
/// Blocks from this length on are taken from the system and given back one by one.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_BLOCK: i32 = 128 << 10;

/// Sets up the allocator for a daemon, unless its user has done so; to be called before any thread starts.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "no crate has a safe function for it")]
pub(crate) fn set_up() {
    if VARIABLES.iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    // SAFETY: `mallopt` takes no pointers, and changes only how the allocator gets its memory
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, MOST_HEAPS);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BLOCK);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn set_up() {}

/// Gives what was freed back to the system. glibc does so only at the end of a heap, where some block is always
/// in use. The time it takes depends on how much is free, not on how much is in use: some milliseconds for 50 MiB.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "no crate has a safe function for it")]
pub(crate) fn give_back() {
    // SAFETY: `malloc_trim` takes no pointers; it locks each heap
    let _nothing_was_free = unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_back() {}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    fn resident() -> u64 {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * rustix::param::page_size() as u64
    }

    #[test]
    fn what_was_freed_below_a_block_in_use_is_given_back() {
        const MIB: u64 = 1 << 20;
        let mut blocks: Vec<Vec<u8>> = (0..8192).map(|_| vec![1; 8192]).collect();
        let last = blocks.pop();
        let full = resident();
        drop(blocks);
        give_back();
        let rest = resident();
        assert!(rest + 48 * MIB < full, "{} MiB of {} MiB", rest / MIB, full / MIB);
        drop(last);
    }
}
