//! The systemd user manager.

use std::path::PathBuf;

use super::call::{CallOutput, ManagerCall};
use super::unit::{ServiceUnit, UnitSettings, plain};
use super::user::ServiceUser;
use super::{InstalledUnit, ServiceAction, ServiceError, ServiceManager, ServiceState};

const SERVICE: &str = "lessor.service";
const SOCKET: &str = "lessor.socket";
const SERVICE_TEXT: &str = include_str!("../../systemd/lessor.service");
const SOCKET_TEXT: &str = include_str!("../../systemd/lessor.socket");
const HEAD: &str = "\
# Written by `lessor service install`, which overwrites it. To change it:
#     systemctl --user edit ";
/// How each unit reloads, whatever its program is.
const RELOAD: &str = "ExecReload=";
const OWN_LINES: [&str; 3] = ["ExecStart=", "Environment=", "ListenStream="];
/// The first version that signals a reload itself, and waits until the daemon reports its end.
const SIGNALS_RELOADS: u32 = 253;
/// The longest path of a socket: `sun_path` without its final zero.
const LONGEST_SOCKET: usize = 107;

/// The systemd of one user.
#[derive(Clone, Debug)]
pub struct Systemd {
    user: ServiceUser,
    /// The directory that lists the users whose services continue after logout.
    lingering: PathBuf,
}

impl Systemd {
    /// For this user.
    #[must_use]
    pub fn of(user: ServiceUser) -> Self {
        Self { user, lingering: "/var/lib/systemd/linger".into() }
    }

    fn directory(&self) -> PathBuf {
        self.user.config.join("systemd").join("user")
    }

    fn call(&self, arguments: &[&str]) -> ManagerCall {
        let mut call = ManagerCall::new("systemctl", &[&["--user"], arguments].concat());
        // `su`, cron and similar programs do not set it, and the user's systemd cannot be found without it
        call.variables = vec![("XDG_RUNTIME_DIR", format!("/run/user/{}", self.user.uid).into())];
        call
    }
}

impl ServiceManager for Systemd {
    fn name(&self) -> &'static str {
        "systemd"
    }

    fn paths(&self) -> Vec<PathBuf> {
        [SERVICE, SOCKET].map(|name| self.directory().join(name)).into()
    }

    fn units(&self, settings: &UnitSettings) -> Result<Vec<ServiceUnit>, ServiceError> {
        let [service, socket]: [PathBuf; 2] = [SERVICE, SOCKET].map(|name| self.directory().join(name));
        Ok(vec![
            ServiceUnit { path: service, text: service_text(settings)?, wide: false, stays_in_use: false },
            ServiceUnit { path: socket, text: socket_text(settings)?, wide: false, stays_in_use: true },
        ])
    }

    fn version_call(&self) -> Option<ManagerCall> {
        Some(self.call(&["show", "--property=Version"]))
    }

    fn parse_version(&self, answer: &CallOutput) -> Option<u32> {
        let version = answer.out.lines().find_map(|line| line.strip_prefix("Version="))?;
        let digits = version.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(version.len());
        version[..digits].parse().ok()
    }

    fn calls(&self, action: ServiceAction) -> Vec<ManagerCall> {
        let reset_failed = || self.call(&["reset-failed", SOCKET, SERVICE]).may_fail();
        match action {
            ServiceAction::Check => vec![self.call(&["show", "--property=Version"]).asks_for_manager()],
            ServiceAction::Load { replaces: false } => vec![self.call(&["daemon-reload"])],
            // stopped before the reload, while systemd still knows the old socket
            ServiceAction::Load { replaces: true } => {
                vec![self.call(&["stop", SOCKET, SERVICE]).may_fail(), self.call(&["daemon-reload"])]
            }
            ServiceAction::Enable { loaded: _ } => vec![reset_failed(), self.call(&["enable", "--now", SOCKET])],
            ServiceAction::Uninstall => {
                vec![self.call(&["disable", "--now", SOCKET]).may_fail(), self.call(&["stop", SERVICE]).may_fail()]
            }
            ServiceAction::Forget => vec![self.call(&["daemon-reload"]), reset_failed()],
            ServiceAction::Start => vec![reset_failed(), self.call(&["start", SOCKET, SERVICE])],
            // the socket as well, otherwise the next client would start the daemon again
            ServiceAction::Stop => vec![self.call(&["stop", SOCKET, SERVICE])],
            ServiceAction::Restart => vec![reset_failed(), self.call(&["restart", SERVICE])],
        }
    }

    fn status_calls(&self) -> Vec<ManagerCall> {
        let properties = "--property=Id,LoadState,ActiveState,SubState,Result,UnitFileState,MainPID,StatusText,\
                          NRestarts,FragmentPath,DropInPaths,Listen";
        vec![self.call(&["show", SOCKET, SERVICE, properties]).asks_for_manager()]
    }

    fn parse_status(&self, answers: &[CallOutput]) -> ServiceState {
        let text = answers.first().map(|said| said.out.as_str()).unwrap_or_default();
        let (socket, service) = (Properties::of(text, SOCKET), Properties::of(text, SERVICE));
        let installed = service.get("LoadState") == "loaded" && socket.get("LoadState") == "loaded";
        let enabled = |unit: &Properties<'_>| unit.get("UnitFileState").starts_with("enabled");
        let mut word = format!("{} ({})", service.get("ActiveState"), service.get("SubState"));
        if !matches!(service.get("Result"), "" | "success") {
            word += &format!(": {}", service.get("Result"));
        }
        let listen = socket.get("Listen");
        ServiceState {
            installed,
            enabled: enabled(&socket) || enabled(&service),
            active: service.get("ActiveState") == "active",
            failed: installed && service.get("ActiveState") == "failed",
            summary: if installed { word } else { "not installed".to_owned() },
            pid: service.get("MainPID").parse().ok().filter(|pid| *pid > 0),
            listening: installed.then(|| socket.get("ActiveState") == "active"),
            socket: (!listen.is_empty()).then(|| listen.trim_end_matches(" (Stream)").to_owned()),
            lingers: self.user.name.as_ref().map(|name| self.lingering.join(name).exists()),
            status_text: Some(service.get("StatusText")).filter(|text| !text.is_empty()).map(str::to_owned),
            restarts: service.get("NRestarts").parse().ok().filter(|_| installed),
            files: [&service, &socket].iter().flat_map(|unit| unit.files()).collect(),
        }
    }

    fn parse_unit(&self, unit: &str) -> InstalledUnit {
        let program = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).map(first_word);
        let known = [essence(SERVICE_TEXT), signalled(&essence(SERVICE_TEXT)), essence(SOCKET_TEXT)];
        let is_current = known.contains(&essence(unit));
        InstalledUnit { program, is_current }
    }

    fn searches_for_units(&self) -> bool {
        true
    }

    fn hints(&self, _settings: &UnitSettings, state: &ServiceState) -> Vec<String> {
        let hint = "the service stops when you log out; to keep it running: loginctl enable-linger";
        (state.lingers == Some(false)).then(|| hint.to_owned()).into_iter().collect()
    }
}

struct Properties<'a>(&'a str);

impl<'a> Properties<'a> {
    fn of(text: &'a str, id: &str) -> Self {
        let is_this = |block: &&str| block.lines().any(|line| line.strip_prefix("Id=") == Some(id));
        Self(text.split("\n\n").find(is_this).unwrap_or_default())
    }

    fn get(&self, name: &str) -> &'a str {
        let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix('=');
        self.0.lines().find_map(value).unwrap_or_default()
    }

    fn files(&self) -> Vec<String> {
        let drop_ins = self.get("DropInPaths").split_ascii_whitespace();
        let paths = [self.get("FragmentPath")].into_iter().chain(drop_ins).filter(|path| !path.is_empty());
        paths.map(str::to_owned).collect()
    }
}

fn service_text(settings: &UnitSettings) -> Result<String, ServiceError> {
    let mut text = format!("{HEAD}{SERVICE}\n\n");
    let signals_reloads = settings.manager_version.is_some_and(|version| version >= SIGNALS_RELOADS);
    // systemd takes both for one unit only since version 258
    let is_left_out = |line: &str| signals_reloads && line.starts_with("ExecReload=");
    for line in SERVICE_TEXT.lines().filter(|line| !is_left_out(line)) {
        if signals_reloads && line.starts_with("# It waits until the daemon") {
            text += "# systemd signals a reload, and waits until the daemon reports its end.\n";
        } else if signals_reloads && line == "Type=notify" {
            text += "Type=notify-reload\n";
        } else if line.starts_with("ExecReload=") {
            text += &format!("ExecReload={} reload\n", quoted(plain("this program", &settings.program)?));
        } else if line.starts_with("ExecStart=") {
            for (name, value) in &settings.variables {
                let value = plain(name, value)?;
                text += &format!("Environment={}\n", quoted(&format!("{name}={value}")));
            }
            let program = plain("this program", &settings.program)?;
            if program.contains(['"', '\'', '\\']) {
                let (what, path) = ("this program".to_owned(), settings.program.clone());
                let why = "contains a quote or a backslash, which systemd does not accept in the path of a program";
                return Err(ServiceError::Path { what, path, why });
            }
            text += &format!("ExecStart={} daemon\n", quoted(program));
        } else {
            text += &format!("{line}\n");
        }
    }
    Ok(text)
}

fn socket_text(settings: &UnitSettings) -> Result<String, ServiceError> {
    let mut text = format!("{HEAD}{SOCKET}\n\n");
    for line in SOCKET_TEXT.lines() {
        match &settings.socket {
            Some(path) if line.starts_with("ListenStream=") => {
                let wrong = |why| ServiceError::Path { what: "the socket".to_owned(), path: path.clone(), why };
                let socket = plain("the socket", path)?;
                if socket.len() > LONGEST_SOCKET {
                    return Err(wrong("is too long for a socket: at most 107 bytes are allowed"));
                }
                // this line cannot be quoted: spaces at its end are lost, and a backslash there continues the line
                if socket.ends_with([' ', '\\']) {
                    return Err(wrong("ends with a space or a backslash, which systemd does not accept here"));
                }
                text += &format!("ListenStream={}\n", socket.replace('%', "%%"));
            }
            _ => text += &format!("{line}\n"),
        }
    }
    Ok(text)
}

/// Quotes a word for systemd, if necessary.
fn quoted(word: &str) -> String {
    let safe = |letter: char| letter.is_alphanumeric() || "/._-+=:,@~".contains(letter);
    if word.chars().all(safe) {
        return word.to_owned();
    }
    format!("\"{}\"", word.replace('\\', r"\\").replace('"', r#"\""#).replace('%', "%%"))
}

fn first_word(line: &str) -> String {
    let Some(rest) = line.strip_prefix('"') else {
        return line.split(' ').next().unwrap_or_default().replace("%%", "%");
    };
    let mut word = String::new();
    let mut letters = rest.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => break,
            '\\' => word.extend(letters.next()),
            _ => word.push(letter),
        }
    }
    word.replace("%%", "%")
}

/// The lines of a unit, without comments and without what differs per user.
fn essence(unit: &str) -> Vec<&str> {
    let says =
        |line: &&str| !line.is_empty() && !line.starts_with('#') && !OWN_LINES.iter().any(|own| line.starts_with(own));
    let is_reload = |line: &str| line.starts_with("ExecReload=") && line.ends_with(" reload");
    unit.lines().filter(says).map(|line| if is_reload(line) { RELOAD } else { line }).collect()
}

/// The same unit, for a version of systemd that signals reloads itself.
fn signalled<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let kept = lines.iter().filter(|line| **line != RELOAD);
    kept.map(|line| if *line == "Type=notify" { "Type=notify-reload" } else { line }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_systemd() {
        for (word, line) in [
            ("/usr/bin/lessor", "/usr/bin/lessor"),
            ("/a b/lessor", "\"/a b/lessor\""),
            ("/50%/x", "\"/50%%/x\""),
            ("/a\"b\\c", "\"/a\\\"b\\\\c\""),
            ("/ü/$x'", "\"/ü/$x'\""),
        ] {
            assert_eq!(quoted(word), line);
            assert_eq!(first_word(&format!("{line} daemon")), word);
        }
    }
}
