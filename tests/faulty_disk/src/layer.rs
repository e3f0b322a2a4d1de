//! The layer between SQLite and its own access to files.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::size_of;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::{io, ptr, slice};

use rusqlite::ffi::{
    SQLITE_FULL, SQLITE_IOERR_DELETE, SQLITE_IOERR_FSYNC, SQLITE_IOERR_TRUNCATE, SQLITE_IOERR_WRITE, SQLITE_OK,
    sqlite3_file, sqlite3_io_methods, sqlite3_vfs, sqlite3_vfs_find, sqlite3_vfs_register,
};

use super::{Change, Disk, Fault, Outcome, disk_of};

/// SQLite's own access to files.
struct Real(*mut sqlite3_vfs);

// SAFETY: it is never changed, and its functions may be called from any thread
unsafe impl Send for Real {}
// SAFETY: as above
unsafe impl Sync for Real {}

static REAL: OnceLock<Real> = OnceLock::new();

/// A file of a watched directory; SQLite's own data of the file follow it.
#[repr(C)]
struct WatchedFile {
    base: sqlite3_file,
    about: *mut About,
}

struct About {
    disk: Arc<Disk>,
    path: PathBuf,
}

/// Makes the layer SQLite's way to files, once.
pub(super) fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    let is_installed = INSTALLED.get_or_init(|| {
        // SAFETY: the default VFS lives as long as the program; a copy of it lives as long, because it is leaked
        unsafe {
            let real = sqlite3_vfs_find(ptr::null());
            if real.is_null() {
                return false;
            }
            let mut layer = ptr::read(real);
            layer.zName = c"faulty-disk".as_ptr();
            layer.szOsFile += size_of::<WatchedFile>() as c_int;
            layer.pNext = ptr::null_mut();
            layer.xOpen = Some(open);
            layer.xDelete = Some(delete);
            REAL.get_or_init(|| Real(real));
            sqlite3_vfs_register(Box::leak(Box::new(layer)), 1) == SQLITE_OK
        }
    });
    if *is_installed { Ok(()) } else { Err(io::Error::other("SQLite refuses the layer")) }
}

fn real() -> *mut sqlite3_vfs {
    REAL.get().map_or(ptr::null_mut(), |real| real.0)
}

/// # Safety
/// `name` is null or a path that SQLite passes.
unsafe fn path_of<'a>(name: *const c_char) -> Option<&'a Path> {
    if name.is_null() {
        return None;
    }
    // SAFETY: SQLite's names end with a zero byte
    unsafe { CStr::from_ptr(name) }.to_str().ok().map(Path::new)
}

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: the arguments are passed on as SQLite has made them; it has reserved `szOsFile` bytes at `file`
    unsafe {
        let Some(real_open) = (*real()).xOpen else { return SQLITE_FULL };
        let watched = path_of(name).and_then(|path| Some((disk_of(path)?, path)));
        let Some((disk, path)) = watched else { return real_open(real(), name, file, flags, out) };
        let inner = inner(file);
        ptr::write_bytes(inner.cast::<u8>(), 0, size_of::<sqlite3_file>());
        let result = real_open(real(), name, inner, flags, out);
        let watched = file.cast::<WatchedFile>();
        (*watched).base.pMethods = ptr::null();
        if result == SQLITE_OK {
            disk.opened(path);
            (*watched).about = Box::into_raw(Box::new(About { disk, path: path.to_owned() }));
            (*watched).base.pMethods = &METHODS;
        } else if !(*inner).pMethods.is_null()
            && let Some(close) = (*(*inner).pMethods).xClose
        {
            close(inner);
        }
        result
    }
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: as above
    unsafe {
        let Some(real_delete) = (*real()).xDelete else { return SQLITE_IOERR_DELETE };
        if let Some((disk, path)) = path_of(name).and_then(|path| Some((disk_of(path)?, path))) {
            if disk.change(false) == Outcome::Ended {
                return SQLITE_IOERR_DELETE;
            }
            disk.deleted(path);
        }
        real_delete(real(), name, sync)
    }
}

/// SQLite's own data of a file.
///
/// # Safety
/// `file` was opened by [`open`].
unsafe fn inner(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: `szOsFile` has room for both
    unsafe { file.cast::<u8>().add(size_of::<WatchedFile>()).cast() }
}

/// # Safety
/// `file` was opened by [`open`] and is not closed.
unsafe fn about<'a>(file: *mut sqlite3_file) -> &'a About {
    // SAFETY: `open` has set it, and `close` frees it
    unsafe { &*(*file.cast::<WatchedFile>()).about }
}

/// Functions that pass a call on.
macro_rules! passed_on {
    ($($name:ident = $method:ident ($($arg:ident: $type:ty),*) or $else:expr;)+) => {
        $(unsafe extern "C" fn $name(file: *mut sqlite3_file $(, $arg: $type)*) -> c_int {
            // SAFETY: SQLite calls it with an open file of this layer
            unsafe {
                let inner = inner(file);
                match (*(*inner).pMethods).$method {
                    Some(method) => method(inner $(, $arg)*),
                    None => $else,
                }
            }
        })+
    };
}

passed_on! {
    read = xRead(to: *mut c_void, length: c_int, at: i64) or SQLITE_FULL;
    file_size = xFileSize(size: *mut i64) or SQLITE_FULL;
    lock = xLock(level: c_int) or SQLITE_OK;
    unlock = xUnlock(level: c_int) or SQLITE_OK;
    check_reserved_lock = xCheckReservedLock(out: *mut c_int) or SQLITE_OK;
    file_control = xFileControl(what: c_int, with: *mut c_void) or rusqlite::ffi::SQLITE_NOTFOUND;
    sector_size = xSectorSize() or 0;
    device_characteristics = xDeviceCharacteristics() or 0;
    real_write = xWrite(from: *const c_void, length: c_int, at: i64) or SQLITE_FULL;
    real_truncate = xTruncate(length: i64) or SQLITE_FULL;
    real_close = xClose() or SQLITE_OK;
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite closes a file once
    unsafe {
        let result = real_close(file);
        drop(Box::from_raw((*file.cast::<WatchedFile>()).about));
        (*file.cast::<WatchedFile>()).base.pMethods = ptr::null();
        result
    }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, from: *const c_void, length: c_int, at: i64) -> c_int {
    // SAFETY: SQLite passes `length` bytes
    unsafe {
        let About { disk, path } = about(file);
        let (written, result) = match disk.change(false) {
            Outcome::Done => (length, SQLITE_OK),
            Outcome::Ended => return SQLITE_IOERR_WRITE,
            Outcome::Failed(Fault::ShortWrite) => (length / 2, SQLITE_IOERR_WRITE),
            Outcome::Failed(_) => return SQLITE_FULL,
        };
        let done = real_write(file, from, written, at);
        if done != SQLITE_OK {
            return done;
        }
        let data = slice::from_raw_parts(from.cast::<u8>(), written as usize);
        disk.changed(path, Change::Write(at as usize, data.to_vec()));
        result
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, length: i64) -> c_int {
    // SAFETY: as above
    unsafe {
        let About { disk, path } = about(file);
        if disk.change(false) != Outcome::Done {
            return SQLITE_IOERR_TRUNCATE;
        }
        let done = real_truncate(file, length);
        if done == SQLITE_OK {
            disk.changed(path, Change::Length(length as usize));
        }
        done
    }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _: c_int) -> c_int {
    // SAFETY: as above
    let About { disk, path } = unsafe { about(file) };
    if disk.change(true) != Outcome::Done {
        return SQLITE_IOERR_FSYNC;
    }
    // the file itself need not be synced: a power failure is only played
    disk.synced(path);
    SQLITE_OK
}

/// Without shared memory: lessor opens its database exclusively.
static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};
