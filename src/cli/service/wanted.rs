//! What the service must be told so that it is the daemon this user's clients expect.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::service::Wanted;

use super::super::context::Context;
use super::super::failure::Failure;

/// The base directories, which a service manager need not know as the user's shell does.
const BASES: [&str; 3] = ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"];

/// What to write, and what to say about it.
pub(super) fn wanted(context: &Context) -> Result<(Wanted, Vec<String>), Failure> {
    let places = context.places()?;
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let mut variables = Vec::new();
    let home = set("LESSOR_HOME").map(|home| std::path::absolute(&home).unwrap_or_else(|_| home.into()));
    if home.is_none() && cfg!(all(unix, not(target_os = "macos"))) {
        let bases = BASES.into_iter().filter_map(|name| Some((name, PathBuf::from(set(name)?))));
        variables.extend(bases.filter(|(_, path)| path.is_absolute()));
    }
    let has_home = home.is_some();
    variables.extend(home.map(|home| ("LESSOR_HOME", home)));
    if context.flags.config.is_some() || set("LESSOR_CONFIG").is_some() {
        variables.push(("LESSOR_CONFIG", places.config.clone()));
    }
    let has_socket = context.flags.socket.is_some() || set("LESSOR_SOCKET").is_some();
    if has_socket {
        variables.push(("LESSOR_SOCKET", places.socket.clone()));
    }
    let program = program()?;
    let mut hints = Vec::new();
    if is_build_product(&program) {
        let program = program.display();
        hints.push(format!(
            "{program} is a build product, which the next build replaces; better: cargo install --path ."
        ));
    }
    let socket = (has_home || has_socket).then_some(places.socket);
    Ok((Wanted { program, variables, socket }, hints))
}

/// This program, by the name that stays when it is updated.
pub(super) fn program() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()
        .map_err(|error| Failure::new("internal", format!("this program's own file is not known: {error}")))?;
    Ok(lasting(own, std::env::var_os("PATH").as_deref()))
}

/// The same program in `PATH`: package managers keep versions apart, and link the one that is in use there.
fn lasting(own: PathBuf, path: Option<&OsStr>) -> PathBuf {
    // what Linux says of a program that was replaced while it ran
    let own = match own.to_str().and_then(|text| text.strip_suffix(" (deleted)")) {
        Some(before) if !own.exists() => before.into(),
        _ => own,
    };
    let (Some(name), Ok(real)) = (own.file_name(), own.canonicalize()) else { return own };
    let directories = path.map(|path| std::env::split_paths(path).collect::<Vec<_>>()).unwrap_or_default();
    let mut names =
        directories.iter().filter(|directory| directory.is_absolute()).map(|directory| directory.join(name));
    names.find(|found| found.canonicalize().is_ok_and(|found| found == real)).unwrap_or(own)
}

/// Whether cargo put it there, and may replace or remove it any time.
fn is_build_product(program: &Path) -> bool {
    let directory = program.parent();
    let is_profile = directory.is_some_and(|path| path.ends_with("debug") || path.ends_with("release"));
    is_profile && directory.and_then(Path::parent).is_some_and(|path| path.join("CACHEDIR.TAG").exists())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_path_is_preferred_to_where_it_leads() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let (version, bin) = (root.join("1.0"), root.join("bin"));
        for path in [&version, &bin] {
            std::fs::create_dir(path).unwrap();
        }
        let own = version.join("lessor");
        std::fs::write(&own, "").unwrap();
        let path = std::env::join_paths([root.join("none"), "relative".into(), bin.clone()]).unwrap();
        assert_eq!(lasting(own.clone(), Some(&path)), own);
        std::os::unix::fs::symlink(&own, bin.join("lessor")).unwrap();
        assert_eq!(lasting(own.clone(), Some(&path)), bin.join("lessor"));
        assert_eq!(lasting(own.clone(), None), own);
        // replaced while it runs
        assert_eq!(lasting(version.join("lessor (deleted)"), Some(&path)), bin.join("lessor"));
        std::fs::remove_file(bin.join("lessor")).unwrap();
        std::fs::write(bin.join("lessor"), "another").unwrap();
        assert_eq!(lasting(own.clone(), Some(&path)), own);
    }

    #[test]
    fn a_build_product_is_recognised() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!is_build_product(&directory.path().join("release/lessor")));
        std::fs::write(directory.path().join("CACHEDIR.TAG"), "").unwrap();
        assert!(is_build_product(&directory.path().join("release/lessor")));
        assert!(!is_build_product(&directory.path().join("bin/lessor")));
    }
}
