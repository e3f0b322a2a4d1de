use super::*;

fn environment() -> Environment {
    Environment {
        base: Some(BaseDirectories {
            config: r"C:\u\AppData\Roaming".into(),
            data: r"C:\u\AppData\Roaming".into(),
            state: None,
        }),
        current: Some(r"C:\work".into()),
        user: "Ann Lee".to_owned(),
        ..Environment::default()
    }
}

fn socket(change: impl FnOnce(&mut Environment)) -> String {
    let mut environment = environment();
    change(&mut environment);
    AppPaths::resolve(&environment).unwrap().socket.to_str().unwrap().to_owned()
}

#[test]
fn the_profile_holds_everything() {
    let paths = AppPaths::resolve(&environment()).unwrap();
    assert_eq!(paths.config, Path::new(r"C:\u\AppData\Roaming\lessor\config.toml"));
    assert_eq!(paths.lock, Path::new(r"C:\u\AppData\Roaming\lessor\daemon.lock"));
    assert_eq!(paths.key, Path::new(r"C:\u\AppData\Roaming\lessor\state\key"));
    assert_eq!(paths.socket, Path::new(r"\\.\pipe\lessor-Ann-Lee"));
}

#[test]
fn every_home_has_its_own_pipe() {
    let home = |path: &'static str| socket(|e| e.home = Some(path.into()));
    let one = home(r"C:\x");
    assert!(one.starts_with(r"\\.\pipe\lessor-Ann-Lee-"), "{one}");
    assert_eq!(one.rsplit('-').next().unwrap().len(), 16);
    assert_ne!(one, home(r"C:\y"));
    for same in [r"c:\X", r"C:\x\", r"C:/x", r"C:\.\x"] {
        assert_eq!(home(same), one, "{same}");
    }
    assert_eq!(home(r"here"), home(r"C:\work\here"));
}

#[test]
fn a_pipe_name_is_used_unchanged() {
    assert_eq!(socket(|e| e.socket = Some(r"\\.\pipe\mine".into())), r"\\.\pipe\mine");
    assert_eq!(socket(|e| e.socket = Some("//./pipe/mine".into())), r"\\.\pipe\mine");
    assert_eq!(socket(|e| e.flags.socket = Some(r"\\.\pipe\Mine".into())), r"\\.\pipe\Mine");
}
