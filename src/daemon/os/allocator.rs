//! Memory that is given back to the system: what was freed, of which glibc's allocator keeps some, and code that
//! only the start has used. Other systems are left as they are. And memory that SQLite need not keep.

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

/// Has SQLite take memory as it needs it, instead of a pool of 48 KiB and one of 85 KiB for each connection, which it keeps;
/// to be called before any thread starts. Without effect where SQLite is in use already.
#[expect(unsafe_code, reason = "no crate has a safe function for it")]
pub(crate) fn set_up_database() {
    use rusqlite::ffi::{SQLITE_CONFIG_LOOKASIDE, SQLITE_CONFIG_PAGECACHE, sqlite3_config};
    let none: std::ffi::c_int = 0;
    // SAFETY: these are the types that SQLite's manual states for these options, and no other thread uses SQLite
    unsafe {
        sqlite3_config(SQLITE_CONFIG_LOOKASIDE, none, none);
        sqlite3_config(SQLITE_CONFIG_PAGECACHE, std::ptr::null_mut::<std::ffi::c_void>(), none, none);
    }
}

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

/// Lets go of the pages of the program's own code: the start has used many that are not used again. Those that are used
/// come back from the file, as those that the system itself takes away when memory is short.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "no crate has a safe function for it")]
pub(crate) fn let_go_of_code() {
    let Ok(program) = std::fs::read_link("/proc/self/exe") else { return };
    let Ok(mappings) = std::fs::read_to_string("/proc/self/maps") else { return };
    for (start, length) in mappings.lines().filter_map(|mapping| code_of(&program, mapping)) {
        // SAFETY: a mapping of the program without the right to write, in a process that no debugger may attach to: its
        // pages are those of the file, before and when they come back
        unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(start), length, libc::MADV_DONTNEED) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn let_go_of_code() {}

/// Start and length of a mapping of `/proc/PID/maps`, if it is code of this program that cannot be written.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn code_of(program: &std::path::Path, mapping: &str) -> Option<(usize, usize)> {
    let (range, rest) = mapping.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let is_code = rest.starts_with("r-xp ");
    let is_of_program = rest.find('/').is_some_and(|path| std::path::Path::new(&rest[path..]) == program);
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    (is_code && is_of_program).then_some((start, end.checked_sub(start)?))
}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_program_is_let_go() {
        for (mapping, expected) in [
            ("3000-9000 r-xp 00002000 fe:00 7  /usr/bin/lessor", Some((0x3000, 0x6000))),
            ("3000-9000 r-xp 00002000 fe:00 7  /usr/lib/libc.so.6", None),
            // relocated
            ("9000-a000 r--p 00008000 fe:00 7  /usr/bin/lessor", None),
            ("a000-b000 rw-p 00009000 fe:00 7  /usr/bin/lessor", None),
            ("a000-b000 rwxp 00009000 fe:00 7  /usr/bin/lessor", None),
            ("b000-c000 r-xp 00000000 00:00 0", None),
            ("e000-f000 r-xp 00000000 00:00 0  [vdso]", None),
            ("", None),
        ] {
            assert_eq!(code_of("/usr/bin/lessor".as_ref(), mapping), expected, "{mapping}");
        }
    }

    #[test]
    fn code_that_was_let_go_comes_back_when_it_is_used() {
        let sum = || -> i64 {
            let database = rusqlite::Connection::open_in_memory().unwrap();
            let sum =
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT sum(i) FROM n";
            database.query_row(sum, [], |row| row.get(0)).unwrap()
        };
        assert_eq!(sum(), 45);
        let before = resident_code();
        let_go_of_code();
        let after = resident_code();
        assert!(after < before, "{after} of {before} KiB");
        assert_eq!(sum(), 45);
    }

    /// The program's code that is in memory, in KiB.
    fn resident_code() -> u64 {
        let program = std::fs::read_link("/proc/self/exe").unwrap();
        let mappings = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let (mut is_code, mut resident) = (false, 0);
        for line in mappings.lines() {
            if let Some(pages) = line.strip_prefix("Rss:").filter(|_| is_code) {
                resident += pages.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap();
            } else if line.starts_with(|first: char| first.is_ascii_hexdigit() && !first.is_ascii_uppercase()) {
                is_code = code_of(&program, line).is_some();
            }
        }
        resident
    }

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
