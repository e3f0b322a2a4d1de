use super::*;

fn environment() -> Environment {
    Environment {
        base: Some(BaseDirectories {
            config: "/h/.config".into(),
            data: "/h/.local/share".into(),
            state: Some("/h/.local/state".into()),
        }),
        runtime: Some("/run/user/7".into()),
        current: Some("/work".into()),
        ..Environment::default()
    }
}

/// The environment with these changes, as in `home=/x config=`.
fn changed(changes: &str) -> Environment {
    let mut environment = environment();
    for (name, value) in changes.split_whitespace().map(|change| change.split_once('=').unwrap()) {
        match name {
            "config" => environment.config = Some(value.into()),
            "socket" => environment.socket = Some(value.into()),
            "home" => environment.home = Some(value.into()),
            "runtime" => environment.runtime = Some(value.into()).filter(|_| value != "none"),
            "--config" => environment.flags.config = Some(value.into()),
            "--socket" => environment.flags.socket = Some(value.into()),
            "base" => environment.base = None,
            "current" => environment.current = None,
            other => panic!("{other}"),
        }
    }
    environment
}

/// Changes of the environment, and the resulting config, data, state and socket; those not named are the defaults.
#[test]
fn precedence_of_flags_variables_and_defaults() {
    let xdg =
        "/h/.config/lessor/config.toml /h/.local/share/lessor /h/.local/state/lessor /run/user/7/lessor/lessor.sock";
    let home = "/x/config.toml /x/data /x/state /x/run/lessor.sock";
    let fallback = "/h/.local/state/lessor/run/lessor.sock";
    for (changes, base, config, socket) in [
        ("", xdg, None, None),
        ("runtime=none", xdg, None, Some(fallback)),
        ("runtime=", xdg, None, Some(fallback)),
        ("runtime=run", xdg, None, Some(fallback)),
        ("home=/x", home, None, None),
        ("home=", xdg, None, None),
        ("home=./x", "/work/x/config.toml /work/x/data /work/x/state /work/x/run/lessor.sock", None, None),
        ("config=/c.toml", xdg, Some("/c.toml"), None),
        ("config=c.toml", xdg, Some("/work/c.toml"), None),
        ("config=", xdg, None, None),
        ("socket=/s", xdg, None, Some("/s")),
        ("socket=../s", xdg, None, Some("/work/../s")),
        ("home=/x config=/c.toml", home, Some("/c.toml"), None),
        ("home=/x socket=/s", home, None, Some("/s")),
        ("home=/x socket=/s --socket=t", home, None, Some("/work/t")),
        ("config=/c.toml --config=/d.toml", xdg, Some("/d.toml"), None),
        ("--config=", xdg, None, None),
        ("base=none home=/x current=none", home, None, None),
    ] {
        let mut expected: Vec<&str> = base.split(' ').collect();
        (expected[0], expected[3]) = (config.unwrap_or(expected[0]), socket.unwrap_or(expected[3]));
        let paths = AppPaths::resolve(&changed(changes)).unwrap();
        let got = [paths.config, paths.data, paths.state, paths.socket];
        assert_eq!(got.map(|path| path.to_str().unwrap().to_owned()), expected[..], "{changes}");
    }
}

#[test]
fn without_a_state_directory_the_data_directory_is_used() {
    let mut environment = environment();
    environment.runtime = None;
    environment.base.as_mut().unwrap().state = None;
    let paths = AppPaths::resolve(&environment).unwrap();
    assert_eq!(paths.state, Path::new("/h/.local/share/lessor/state"));
    assert_eq!(paths.socket, Path::new("/h/.local/share/lessor/state/run/lessor.sock"));
}

#[test]
fn the_files_are_in_their_directories() {
    let paths = AppPaths::resolve(&environment()).unwrap();
    assert_eq!(paths.database, Path::new("/h/.local/share/lessor/lessor.db"));
    assert_eq!(paths.lock, Path::new("/h/.local/share/lessor/daemon.lock"));
    assert_eq!(paths.key, Path::new("/h/.local/state/lessor/key"));
    assert_eq!(paths.log, Path::new("/h/.local/state/lessor/lessor.log"));
}

#[test]
fn without_any_home_the_error_names_the_fix() {
    let mut environment = environment();
    environment.base = None;
    let error = AppPaths::resolve(&environment).unwrap_err();
    assert_eq!(error, PathsError::NoHome);
    assert!(error.to_string().contains("LESSOR_HOME"));
    environment.base = Some(BaseDirectories { config: ".config".into(), data: ".local".into(), state: None });
    assert_eq!(AppPaths::resolve(&environment), Err(PathsError::NoHome));
}

#[test]
fn a_relative_path_needs_a_current_directory() {
    let mut environment = environment();
    environment.current = None;
    environment.home = Some("x".into());
    let error = AppPaths::resolve(&environment).unwrap_err();
    assert!(error.to_string().starts_with("LESSOR_HOME is the relative path"), "{error}");
}
