//! The program, variables and socket of the service, so that clients of this user reach it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::cli::{context::Context, error::CliError};
use crate::service::UnitSettings;

/// The base directories; a service manager may not have the same as the user's shell.
const BASES: [&str; 3] = ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"];
/// Where cargo builds, below its target directory; the last one is the profile that packages are built with.
const PROFILES: [&str; 3] = ["debug", "release", "dist"];

pub(super) fn of_this_program(context: &Context) -> Result<(UnitSettings, Vec<String>), CliError> {
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
            "{program} is in a build directory, and the next build replaces it; better: cargo install --path ."
        ));
    }
    let socket = (has_home || has_socket).then_some(places.socket);
    Ok((UnitSettings { program, variables, socket, manager_version: None }, hints))
}

pub(super) fn program() -> Result<PathBuf, CliError> {
    let own = std::env::current_exe()
        .map_err(|error| CliError::internal(format!("cannot find the file of this program: {error}")))?;
    Ok(stable_path(own, std::env::var_os("PATH").as_deref()))
}

/// The same program in `PATH`, where package managers link the current version.
fn stable_path(own: PathBuf, path: Option<&OsStr>) -> PathBuf {
    // Linux adds this to the path of a program that was replaced while it runs
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

fn is_build_product(program: &Path) -> bool {
    let directory = program.parent();
    let is_profile = directory.is_some_and(|path| PROFILES.iter().any(|profile| path.ends_with(profile)));
    is_profile && directory.and_then(Path::parent).is_some_and(|path| path.join("CACHEDIR.TAG").exists())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_path_is_preferred_to_its_target() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let (version, bin) = (root.join("1.0"), root.join("bin"));
        for path in [&version, &bin] {
            std::fs::create_dir(path).unwrap();
        }
        let own = version.join("lessor");
        std::fs::write(&own, "").unwrap();
        let path = std::env::join_paths([root.join("none"), "relative".into(), bin.clone()]).unwrap();
        assert_eq!(stable_path(own.clone(), Some(&path)), own);
        std::os::unix::fs::symlink(&own, bin.join("lessor")).unwrap();
        assert_eq!(stable_path(own.clone(), Some(&path)), bin.join("lessor"));
        assert_eq!(stable_path(own.clone(), None), own);
        // replaced while running
        assert_eq!(stable_path(version.join("lessor (deleted)"), Some(&path)), bin.join("lessor"));
        std::fs::remove_file(bin.join("lessor")).unwrap();
        std::fs::write(bin.join("lessor"), "another").unwrap();
        assert_eq!(stable_path(own.clone(), Some(&path)), own);
    }

    #[test]
    fn a_program_in_a_build_directory_is_recognised() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!is_build_product(&directory.path().join("release/lessor")));
        std::fs::write(directory.path().join("CACHEDIR.TAG"), "").unwrap();
        for profile in PROFILES {
            assert!(is_build_product(&directory.path().join(profile).join("lessor")), "{profile}");
        }
        assert!(!is_build_product(&directory.path().join("bin/lessor")));
    }
}
