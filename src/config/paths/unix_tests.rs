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

/// A change of the environment, and the resulting config, data, state and socket.
type ResolveCase = (fn(&mut Environment), [&'static str; 4]);

const XDG: [&str; 4] = [
    "/h/.config/lessor/config.toml",
    "/h/.local/share/lessor",
    "/h/.local/state/lessor",
    "/run/user/7/lessor/lessor.sock",
];
const HOME: [&str; 4] = ["/x/config.toml", "/x/data", "/x/state", "/x/run/lessor.sock"];

fn with(row: [&'static str; 4], at: usize, path: &'static str) -> [&'static str; 4] {
    let mut row = row;
    row[at] = path;
    row
}

#[test]
fn precedence_of_flags_variables_and_defaults() {
    let fallback = "/h/.local/state/lessor/run/lessor.sock";
    let cases: Vec<ResolveCase> = vec![
        (|_| (), XDG),
        (|e| e.runtime = None, with(XDG, 3, fallback)),
        (|e| e.runtime = Some("".into()), with(XDG, 3, fallback)),
        (|e| e.runtime = Some("run".into()), with(XDG, 3, fallback)),
        (|e| e.home = Some("/x".into()), HOME),
        (|e| e.home = Some("".into()), XDG),
        (
            |e| e.home = Some("./x".into()),
            ["/work/x/config.toml", "/work/x/data", "/work/x/state", "/work/x/run/lessor.sock"],
        ),
        (|e| e.config = Some("/c.toml".into()), with(XDG, 0, "/c.toml")),
        (|e| e.config = Some("c.toml".into()), with(XDG, 0, "/work/c.toml")),
        (|e| e.config = Some("".into()), XDG),
        (|e| e.socket = Some("/s".into()), with(XDG, 3, "/s")),
        (|e| e.socket = Some("../s".into()), with(XDG, 3, "/work/../s")),
        (
            |e| {
                e.home = Some("/x".into());
                e.config = Some("/c.toml".into());
            },
            with(HOME, 0, "/c.toml"),
        ),
        (
            |e| {
                e.home = Some("/x".into());
                e.socket = Some("/s".into());
            },
            with(HOME, 3, "/s"),
        ),
        (
            |e| {
                e.home = Some("/x".into());
                e.socket = Some("/s".into());
                e.flags.socket = Some("t".into());
            },
            with(HOME, 3, "/work/t"),
        ),
        (
            |e| {
                e.config = Some("/c.toml".into());
                e.flags.config = Some("/d.toml".into());
            },
            with(XDG, 0, "/d.toml"),
        ),
        (|e| e.flags.config = Some("".into()), XDG),
        (
            |e| {
                e.base = None;
                e.home = Some("/x".into());
                e.current = None;
            },
            HOME,
        ),
    ];
    for (index, (change, expected)) in cases.into_iter().enumerate() {
        let mut environment = environment();
        change(&mut environment);
        let paths = AppPaths::resolve(&environment).unwrap();
        let got = [paths.config, paths.data, paths.state, paths.socket];
        assert_eq!(got, expected.map(PathBuf::from), "case {index}");
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
