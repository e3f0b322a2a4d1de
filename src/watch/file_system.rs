//! Whether a file system is known to report every change: those that other machines or programs behind it can change, such
//! as NFS, SMB, 9P and FUSE, do not.

use std::path::Path;

/// The file systems of this machine that do, by the numbers that `statfs` returns for them: ext2 to ext4, XFS, Btrfs, F2FS,
/// bcachefs, ZFS, tmpfs, and overlays of them.
#[cfg(target_os = "linux")]
const REPORTING: [u32; 8] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0xca45_1a4e, 0x2fc1_2fc1, 0x0102_1994, 0x794c_7630];

/// Whether every change in this directory raises an event.
#[cfg(target_os = "linux")]
pub(super) fn reports_changes(directory: &Path) -> bool {
    // the number has 32 bits; the field that holds it is signed or wider on some machines
    rustix::fs::statfs(directory).is_ok_and(|about| REPORTING.contains(&(about.f_type as u32)))
}

/// Not known on this system.
#[cfg(not(target_os = "linux"))]
pub(super) const fn reports_changes(_directory: &Path) -> bool {
    false
}
