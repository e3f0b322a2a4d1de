//! The calls and units of each manager, and the parsing of their output.

use std::{cell::RefCell, collections::VecDeque, io, path::Path};

use super::*;

/// Replaces the manager's program: records the calls, and returns the prepared outputs, or success.
#[derive(Debug, Default)]
struct Stage {
    called: RefCell<Vec<String>>,
    answers: RefCell<VecDeque<CallOutput>>,
}

impl CallRunner for &Stage {
    fn run(&self, call: &ManagerCall) -> io::Result<CallOutput> {
        self.called.borrow_mut().push(call.to_string());
        Ok(self.answers.borrow_mut().pop_front().unwrap_or(CallOutput { ok: true, ..CallOutput::default() }))
    }

    fn pause(&self) {
        self.called.borrow_mut().push("(rest)".to_owned());
    }
}

fn user(home: &Path) -> ServiceUser {
    ServiceUser {
        uid: 501,
        name: Some("ann".to_owned()),
        home: home.to_owned(),
        config: home.join(".config"),
        state: home.join("state"),
    }
}

fn managers(home: &Path) -> [Box<dyn ServiceManager>; 3] {
    let ann = user(home);
    [Box::new(Systemd::of(ann.clone())), Box::new(Launchd::of(ann.clone())), Box::new(TaskScheduler::of(ann))]
}

fn wanted() -> UnitSettings {
    UnitSettings {
        program: "/opt/a & b/lessor".into(),
        variables: vec![("LESSOR_HOME", "/h/100 %".into()), ("LESSOR_CONFIG", "/c/\"x\".toml".into())],
        socket: Some("/h/100 %/run/lessor.sock".into()),
        manager_version: None,
    }
}

fn said(out: &str) -> CallOutput {
    CallOutput { ok: true, out: out.to_owned(), err: String::new() }
}

fn no(err: &str) -> CallOutput {
    CallOutput { ok: false, out: String::new(), err: err.to_owned() }
}

#[test]
fn each_action_becomes_the_calls_of_its_manager() {
    use ServiceAction::{Check, Enable, Forget, Load, Restart, Start, Stop, Uninstall};
    let rows = [
        (0, Check, "@systemctl show --property=Version"),
        (0, Load { replaces: false }, "@systemctl daemon-reload"),
        (0, Load { replaces: true }, "@systemctl stop @units; @systemctl daemon-reload"),
        (0, Enable { loaded: true }, "@systemctl reset-failed @units; @systemctl enable --now lessor.socket"),
        (0, Uninstall, "@systemctl disable --now lessor.socket; @systemctl stop lessor.service"),
        (0, Forget, "@systemctl daemon-reload; @systemctl reset-failed @units"),
        (0, Start, "@systemctl reset-failed @units; @systemctl start @units"),
        (0, Stop, "@systemctl stop @units"),
        (0, Restart, "@systemctl reset-failed @units; @systemctl restart lessor.service"),
        (1, Check, "launchctl print gui/501"),
        (1, Load { replaces: false }, ""),
        (1, Load { replaces: true }, "launchctl bootout gui/501/lessor"),
        (1, Enable { loaded: true }, "launchctl enable gui/501/lessor"),
        (1, Enable { loaded: false }, "launchctl enable gui/501/lessor; launchctl bootstrap gui/501 @plist"),
        (1, Uninstall, "launchctl bootout gui/501/lessor"),
        (1, Forget, ""),
        (1, Start, "launchctl bootstrap gui/501 @plist; launchctl kickstart gui/501/lessor"),
        (1, Stop, "launchctl kill SIGTERM gui/501/lessor"),
        (1, Restart, "launchctl bootstrap gui/501 @plist; launchctl kickstart -k gui/501/lessor"),
        (2, Check, "schtasks /Query"),
        (2, Load { replaces: false }, "schtasks /Create /TN lessor /XML /Users/ann/state/logon-task.xml /F"),
        (2, Enable { loaded: true }, "schtasks /Run /TN lessor"),
        (2, Uninstall, "schtasks /Delete /TN lessor /F"),
        (2, Forget, ""),
        (2, Start, "schtasks /Run /TN lessor"),
        (2, Stop, ""),
        (2, Restart, "schtasks /Run /TN lessor"),
    ];
    let full = |text: &str| {
        let text = text.replace("@systemctl", "systemctl --user").replace("@units", "lessor.socket lessor.service");
        text.replace("@plist", "/Users/ann/Library/LaunchAgents/lessor.plist")
    };
    let managers = managers(Path::new("/Users/ann"));
    for (which, action, wanted) in rows {
        let calls: Vec<String> = managers[which].calls(action).iter().map(ToString::to_string).collect();
        // the path's separators depend on the system that runs the test
        let calls: Vec<String> = calls.iter().map(|call| call.replace('\\', "/")).collect();
        assert_eq!(calls.join("; "), full(wanted), "{} {action:?}", managers[which].name());
    }
}

#[test]
fn written_units_are_read_back() {
    for manager in managers(Path::new("/Users/ann")) {
        let units = manager.units(&wanted()).unwrap();
        assert_eq!(units.iter().map(|unit| unit.path.clone()).collect::<Vec<_>>(), manager.paths());
        let reading = manager.parse_unit(&units[0].text);
        assert_eq!(reading.program.as_deref(), Some("/opt/a & b/lessor"), "{}", manager.name());
        for unit in &units {
            assert!(manager.parse_unit(&unit.text).is_current, "{}", unit.text);
            let older = unit.text.replace("lessor, which", "Lessor, that").replace("10", "11").replace("0600", "0666");
            assert!(!manager.parse_unit(&older).is_current, "{older}");
            for word in ["@PROGRAM@", "@VARIABLES@", "@STATE@", "@USER@", "@ARGUMENTS@"] {
                assert!(!unit.text.contains(word), "{}", unit.text);
            }
        }
    }
}

#[test]
fn a_reload_waits_in_each_version_of_systemd() {
    let manager = Systemd::of(user(Path::new("/home/ann")));
    let versions = [
        ("Version=252.38-1~deb12u1\n", Some(252)),
        ("Version=253\n", Some(253)),
        ("Version=v257.3\n", None),
        ("", None),
    ];
    for (text, version) in versions {
        assert_eq!(manager.parse_version(&said(text)), version, "{text}");
    }
    for (answer, signals) in [
        (said("Version=252"), false),
        (said("Version=253.1"), true),
        (said("Version=260"), true),
        (no("no bus"), false),
    ] {
        let stage = Stage::default();
        stage.answers.borrow_mut().push_back(answer);
        let control = ServiceControl::with(Box::new(Systemd::of(user(Path::new("/home/ann")))), &stage);
        let unit = control.units(&wanted()).unwrap().remove(0).text;
        let lines: Vec<&str> =
            unit.lines().filter(|line| line.starts_with("Type=") || line.starts_with("ExecReload=")).collect();
        let expected: &[&str] =
            if signals { &["Type=notify-reload"] } else { &["Type=notify", "ExecReload=\"/opt/a & b/lessor\" reload"] };
        assert_eq!(lines, expected);
        assert!(manager.parse_unit(&unit).is_current, "{unit}");
        // as earlier versions of lessor wrote it, and without either
        let older = unit.replace("\"/opt/a & b/lessor\" reload", "kill -HUP $MAINPID");
        assert_eq!(manager.parse_unit(&older).is_current, signals);
        assert!(!manager.parse_unit(&unit.replace("Type=notify", "Type=simple")).is_current);
    }
}

#[test]
fn systemd_units_contain_the_users_settings() {
    let manager = Systemd::of(user(Path::new("/home/ann")));
    let units = manager.units(&wanted()).unwrap();
    let lines = |unit: &ServiceUnit, beginning: &str| -> Vec<String> {
        unit.text.lines().filter(|line| line.starts_with(beginning)).map(str::to_owned).collect()
    };
    assert_eq!(lines(&units[0], "ExecStart="), ["ExecStart=\"/opt/a & b/lessor\" daemon"]);
    assert_eq!(
        lines(&units[0], "Environment="),
        [r#"Environment="LESSOR_HOME=/h/100 %%""#, r#"Environment="LESSOR_CONFIG=/c/\"x\".toml""#]
    );
    assert_eq!(lines(&units[1], "ListenStream="), ["ListenStream=/h/100 %%/run/lessor.sock"]);
    let usual = UnitSettings { program: "/usr/bin/lessor".into(), ..UnitSettings::default() };
    for program in ["/a'b/lessor", "/a\"b", "/a\\b", "/a\nb"] {
        let wanted = UnitSettings { program: program.into(), ..usual.clone() };
        assert!(manager.units(&wanted).unwrap_err().to_string().starts_with("this program is"));
    }
    let units = manager.units(&usual).unwrap();
    assert_eq!(lines(&units[0], "ExecStart="), ["ExecStart=/usr/bin/lessor daemon"]);
    assert_eq!(lines(&units[1], "ListenStream="), ["ListenStream=%t/lessor/lessor.sock"]);
    for (socket, why) in [("/a\nb", "control"), ("/a ", "space"), ("/a\\", "backslash"), (&*"/x".repeat(60), "long")] {
        let wanted = UnitSettings { socket: Some(socket.into()), ..usual.clone() };
        let error = manager.units(&wanted).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn the_launchd_unit_contains_the_users_settings() {
    let manager = Launchd::of(user(Path::new("/Users/ann")));
    let text = &manager.units(&wanted()).unwrap()[0].text;
    for part in [
        "<string>/opt/a &amp; b/lessor</string>\n\t\t<string>daemon</string>",
        "\t\t<key>LESSOR_HOME</key>\n\t\t<string>/h/100 %</string>\n\t\t<key>LESSOR_CONFIG</key>\n\t\t<string>/c/&quot;x&quot;.toml</string>",
        "<key>RunAtLoad</key>\n\t<true/>",
        "<key>SuccessfulExit</key>\n\t\t<false/>",
        "<key>Umask</key>\n\t<integer>63</integer>",
        "<string>/Users/ann/state/launchd.log</string>",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_tags_close(text);
}

#[test]
fn the_windows_task_contains_the_users_settings() {
    let mut ann = user(Path::new("/Users/ann"));
    ann.name = Some("HOME&CO\\ann".to_owned());
    let manager = TaskScheduler::of(ann);
    let unit = &manager.units(&wanted()).unwrap()[0];
    for part in [
        "<UserId>HOME&amp;CO\\ann</UserId>",
        "<Command>/opt/a &amp; b/lessor</Command>",
        "<Arguments>--config &quot;/c/&quot;x&quot;.toml&quot; daemon --launch</Arguments>",
        "<RunLevel>LeastPrivilege</RunLevel>",
    ] {
        assert!(unit.text.contains(part), "{part} in {}", unit.text);
    }
    assert_tags_close(&unit.text);
    let hints = manager.hints(&wanted(), &ServiceState::default());
    assert!(hints[0].contains("setx LESSOR_HOME"), "{hints:?}");
    // written as UTF-16, and read back
    let directory = tempfile::tempdir().unwrap();
    let unit = ServiceUnit { path: directory.path().join("a/b.xml"), ..unit.clone() };
    assert_eq!(unit.write().unwrap(), UnitChange::Written);
    assert!(std::fs::read(&unit.path).unwrap().starts_with(&[0xff, 0xfe, b'<', 0]));
    assert_eq!(unit::text(&unit.path).unwrap(), unit.text);
    assert_eq!(unit.write().unwrap(), UnitChange::Unchanged);
}

/// Checks that every XML element is closed, in order.
fn assert_tags_close(text: &str) {
    let mut open = Vec::new();
    for part in text.split('<').skip(1) {
        let tag = part.split('>').next().unwrap();
        let name = tag.split(' ').next().unwrap();
        match tag {
            _ if tag.starts_with(['?', '!']) || tag.ends_with('/') => {}
            _ if name.starts_with('/') => assert_eq!(open.pop().as_deref(), Some(&name[1..]), "{text}"),
            _ => open.push(name.to_owned()),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn systemd_output_is_parsed() {
    let manager = Systemd::of(user(Path::new("/home/ann")));
    let text = "Listen=/run/user/501/lessor/lessor.sock (Stream)\nResult=success\nId=lessor.socket\nLoadState=loaded\n\
                ActiveState=active\nSubState=running\nFragmentPath=/u/lessor.socket\nUnitFileState=enabled\n\
                DropInPaths=\n\nNRestarts=2\nMainPID=77\nStatusText=1 lease, 2 accounts (2 ready), queue 0\n\
                Result=success\nId=lessor.service\nLoadState=loaded\nActiveState=active\nSubState=running\n\
                FragmentPath=/u/lessor.service\nDropInPaths=/u/lessor.service.d/a.conf\nUnitFileState=indirect\n";
    let state = manager.parse_status(&[said(text)]);
    assert_eq!(
        state,
        ServiceState {
            installed: true,
            enabled: true,
            active: true,
            failed: false,
            summary: "active (running)".into(),
            pid: Some(77),
            listening: Some(true),
            socket: Some("/run/user/501/lessor/lessor.sock".into()),
            lingers: Some(false),
            status_text: Some("1 lease, 2 accounts (2 ready), queue 0".into()),
            restarts: Some(2),
            files: ["/u/lessor.service", "/u/lessor.service.d/a.conf", "/u/lessor.socket"].map(str::to_owned).into(),
        }
    );
    assert!(manager.hints(&wanted(), &state)[0].contains("loginctl enable-linger"));
    let failed = text
        .replace("MainPID=77", "MainPID=0")
        .replace(
            "ActiveState=active\nSubState=running\nFragmentPath=/u/lessor.service",
            "ActiveState=failed\nSubState=failed\nFragmentPath=/u/lessor.service",
        )
        .replace("Result=success\nId=lessor.service", "Result=exit-code\nId=lessor.service");
    let state = manager.parse_status(&[said(&failed)]);
    assert_eq!((state.active, state.failed, state.pid), (false, true, None));
    assert_eq!(state.summary, "failed (failed): exit-code");
    let none =
        "Id=lessor.socket\nLoadState=not-found\nActiveState=inactive\n\nId=lessor.service\nLoadState=not-found\n";
    let state = manager.parse_status(&[said(none)]);
    assert!(!state.installed && !state.enabled && state.listening.is_none(), "{state:?}");
}

#[test]
fn launchd_and_windows_output_is_parsed() {
    let [_, launchd, tasks] = managers(Path::new("/Users/ann"));
    let loaded = "gui/501/lessor = {\n\tactive count = 1\n\tpath = /Users/ann/Library/LaunchAgents/lessor.plist\n\
                  \ttype = LaunchAgent\n\tstate = running\n\n\tprogram = /opt/lessor\n\tpid = 77\n\truns = 3\n}\n";
    let disabled = "disabled services = {\n\t\t\"com.x\" => disabled\n\t\t\"lessor\" => enabled\n}\n";
    let state = launchd.parse_status(&[said(loaded), said(disabled)]);
    assert!(state.installed && state.enabled && state.active, "{state:?}");
    assert_eq!((state.pid, state.restarts), (Some(77), Some(2)));
    for off in ["\"lessor\" => disabled", "\"lessor\" => true"] {
        assert!(!launchd.parse_status(&[said(loaded), said(&format!("{{\n\t{off}\n}}"))]).enabled);
    }
    let idle = launchd.parse_status(&[said("x = {\n\tstate = not running\n}"), said("")]);
    assert!(idle.installed && !idle.active && idle.pid.is_none(), "{idle:?}");
    assert!(!launchd.parse_status(&[no("Could not find service"), said("")]).installed);

    let task = tasks.units(&wanted()).unwrap()[0].text.clone();
    let state = tasks.parse_status(&[said(&task)]);
    assert!(state.installed && state.enabled, "{state:?}");
    let off = task.replace("<Settings>", "<Settings><Enabled>false</Enabled>");
    assert!(!tasks.parse_status(&[said(&off)]).enabled);
    assert!(!tasks.parse_status(&[no("ERROR: The system cannot find the file specified.")]).installed);
}

fn loaded() -> CallOutput {
    said("Id=lessor.socket\nLoadState=loaded\n\nId=lessor.service\nLoadState=loaded\n")
}

#[test]
fn installing_twice_changes_nothing_and_uninstalling_removes_everything() {
    let home = tempfile::tempdir().unwrap();
    let stage = Stage::default();
    let service = ServiceControl::with(Box::new(Systemd::of(user(home.path()))), &stage);
    for change in [UnitChange::Written, UnitChange::Unchanged] {
        // check, version, reload and status; reset, enable and status
        let said = || said("");
        stage.answers.borrow_mut().extend([said(), said(), said(), loaded(), no("not loaded"), said(), loaded()]);
        let (done, state) = service.install(&wanted()).unwrap();
        assert!(state.installed && done.iter().all(|done| done.change == change), "{done:?}");
    }
    assert_eq!(service.installed(), InstalledUnit { program: Some("/opt/a & b/lessor".into()), is_current: true });
    assert_eq!(service.uninstall().unwrap().len(), 2);
    assert!(service.manager().paths().iter().all(|path| !path.exists()));
    assert_eq!(service.uninstall().unwrap(), []);
}

#[test]
fn an_unreachable_manager_and_one_that_finds_no_units_are_reported() {
    let home = tempfile::tempdir().unwrap();
    let stage = Stage::default();
    let service = ServiceControl::with(Box::new(Systemd::of(user(home.path()))), &stage);
    let bus = no("Failed to connect to bus: No medium found\n");
    stage.answers.borrow_mut().push_back(bus.clone());
    let error = service.install(&wanted()).unwrap_err();
    assert_eq!(error.to_string(), "systemd cannot be reached: Failed to connect to bus: No medium found");
    assert!(error.hint().unwrap().contains("enable-linger"));
    assert!(
        service.manager().paths().iter().all(|path| !path.exists()),
        "nothing is written if no manager can be reached"
    );
    // the units are removed even if the manager cannot be reached
    let yes = || said("");
    stage.answers.borrow_mut().extend([yes(), yes(), yes(), loaded(), yes(), yes(), loaded()]);
    service.install(&wanted()).unwrap();
    stage.answers.borrow_mut().push_back(bus);
    assert_eq!(service.uninstall().unwrap().len(), 2);
    // the manager does not find the units
    let error = service.install(&wanted()).unwrap_err();
    assert!(matches!(error, ServiceError::NotSeen { .. }) && error.hint().unwrap().contains("XDG_CONFIG_HOME"));
}

#[test]
fn a_call_that_needs_a_moment_is_retried() {
    let home = tempfile::tempdir().unwrap();
    let stage = Stage::default();
    let service = ServiceControl::with(Box::new(Launchd::of(user(home.path()))), &stage);
    stage.answers.borrow_mut().extend([said(""), no("37: Operation already in progress"), said("")]);
    service.act(ServiceAction::Enable { loaded: false }).unwrap();
    let called = stage.called.borrow();
    let verbs: Vec<_> = called.iter().map(|call| call.split(' ').nth(1).unwrap_or("rest")).collect();
    assert_eq!(verbs, ["enable", "bootstrap", "rest", "bootstrap"]);
    drop(called);
    stage.answers.borrow_mut().extend([said(""), no("3: No such process")]);
    let error = service.act(ServiceAction::Start).unwrap_err().to_string();
    assert_eq!(error, "`launchctl kickstart gui/501/lessor` failed: 3: No such process");
}
