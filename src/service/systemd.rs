//! systemd, of a user.

use std::path::PathBuf;

use super::call::{Call, Said};
use super::error::ServiceError;
use super::person::Person;
use super::unit::{Unit, Wanted, plain};
use super::{Action, Manager, Reading, State};

const SERVICE: &str = "lessor.service";
const SOCKET: &str = "lessor.socket";
const SERVICE_TEXT: &str = include_str!("../../systemd/lessor.service");
const SOCKET_TEXT: &str = include_str!("../../systemd/lessor.socket");
/// What installing puts above a unit.
const HEAD: &str = "\
# Written by `lessor service install`, which writes over it. For changes of your own:
#     systemctl --user edit ";
/// The lines that differ from user to user.
const OWN_LINES: [&str; 3] = ["ExecStart=", "Environment=", "ListenStream="];
/// The longest path of a socket: `sun_path` less its final zero.
const LONGEST_SOCKET: usize = 107;

/// The user's own systemd.
#[derive(Clone, Debug)]
pub struct Systemd {
    person: Person,
    /// Where it is noted whose services go on after the logout.
    lingering: PathBuf,
}

impl Systemd {
    /// Of this user.
    #[must_use]
    pub fn of(person: Person) -> Self {
        Self { person, lingering: "/var/lib/systemd/linger".into() }
    }

    fn directory(&self) -> PathBuf {
        self.person.config.join("systemd").join("user")
    }

    fn call(&self, arguments: &[&str]) -> Call {
        let mut call = Call::new("systemctl", &[&["--user"], arguments].concat());
        // `su`, cron and the like do not set it, and nothing else says where the user's systemd listens
        call.variables = vec![("XDG_RUNTIME_DIR", format!("/run/user/{}", self.person.uid).into())];
        call
    }
}

impl Manager for Systemd {
    fn name(&self) -> &'static str {
        "systemd"
    }

    fn paths(&self) -> Vec<PathBuf> {
        [SERVICE, SOCKET].map(|name| self.directory().join(name)).into()
    }

    fn units(&self, wanted: &Wanted) -> Result<Vec<Unit>, ServiceError> {
        let [service, socket]: [PathBuf; 2] = [SERVICE, SOCKET].map(|name| self.directory().join(name));
        Ok(vec![
            Unit { path: service, text: service_text(wanted)?, wide: false, stays_in_use: false },
            Unit { path: socket, text: socket_text(wanted)?, wide: false, stays_in_use: true },
        ])
    }

    fn calls(&self, action: Action) -> Vec<Call> {
        let begin_anew = || self.call(&["reset-failed", SOCKET, SERVICE]).may_fail();
        match action {
            Action::Check => vec![self.call(&["show", "--property=Version"]).asks_for_manager()],
            Action::Load { anew: false } => vec![self.call(&["daemon-reload"])],
            // before the reload, while it still knows which socket that is
            Action::Load { anew: true } => {
                vec![self.call(&["stop", SOCKET, SERVICE]).may_fail(), self.call(&["daemon-reload"])]
            }
            Action::Enable { loaded: _ } => vec![begin_anew(), self.call(&["enable", "--now", SOCKET])],
            Action::Uninstall => {
                vec![self.call(&["disable", "--now", SOCKET]).may_fail(), self.call(&["stop", SERVICE]).may_fail()]
            }
            Action::Forget => vec![self.call(&["daemon-reload"]), begin_anew()],
            Action::Start => vec![begin_anew(), self.call(&["start", SOCKET, SERVICE])],
            // the socket too, or the next client would start it again
            Action::Stop => vec![self.call(&["stop", SOCKET, SERVICE])],
            Action::Restart => vec![begin_anew(), self.call(&["restart", SERVICE])],
        }
    }

    fn questions(&self) -> Vec<Call> {
        let properties = "--property=Id,LoadState,ActiveState,SubState,Result,UnitFileState,MainPID,StatusText,\
                          NRestarts,FragmentPath,DropInPaths,Listen";
        vec![self.call(&["show", SOCKET, SERVICE, properties]).asks_for_manager()]
    }

    fn understand(&self, answers: &[Said]) -> State {
        let text = answers.first().map(|said| said.out.as_str()).unwrap_or_default();
        let (socket, service) = (Properties::of(text, SOCKET), Properties::of(text, SERVICE));
        let installed = service.get("LoadState") == "loaded" && socket.get("LoadState") == "loaded";
        let enabled = |unit: &Properties<'_>| unit.get("UnitFileState").starts_with("enabled");
        let mut word = format!("{} ({})", service.get("ActiveState"), service.get("SubState"));
        if !matches!(service.get("Result"), "" | "success") {
            word += &format!(": {}", service.get("Result"));
        }
        let listen = socket.get("Listen");
        State {
            installed,
            enabled: enabled(&socket) || enabled(&service),
            active: service.get("ActiveState") == "active",
            word: if installed { word } else { "not installed".to_owned() },
            pid: service.get("MainPID").parse().ok().filter(|pid| *pid > 0),
            listening: installed.then(|| socket.get("ActiveState") == "active"),
            socket: (!listen.is_empty()).then(|| listen.trim_end_matches(" (Stream)").to_owned()),
            lingers: self.person.name.as_ref().map(|name| self.lingering.join(name).exists()),
            said: Some(service.get("StatusText")).filter(|text| !text.is_empty()).map(str::to_owned),
            restarts: service.get("NRestarts").parse().ok().filter(|_| installed),
            files: [&service, &socket].iter().flat_map(|unit| unit.files()).collect(),
        }
    }

    fn read(&self, unit: &str) -> Reading {
        let program = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).map(first_word);
        let is_current = [SERVICE_TEXT, SOCKET_TEXT].iter().any(|text| essence(text).eq(essence(unit)));
        Reading { program, is_current }
    }

    fn looks_for_units(&self) -> bool {
        true
    }

    fn hints(&self, _wanted: &Wanted, state: &State) -> Vec<String> {
        let mut hints = Vec::new();
        if state.lingers == Some(false) {
            hints.push("it ends when you log out; to keep it: loginctl enable-linger".to_owned());
        }
        hints
    }
}

/// What `systemctl show` says of one unit.
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
        std::iter::once(self.get("FragmentPath"))
            .chain(drop_ins)
            .filter(|path| !path.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

fn service_text(wanted: &Wanted) -> Result<String, ServiceError> {
    let mut text = format!("{HEAD}{SERVICE}\n\n");
    for line in SERVICE_TEXT.lines() {
        if line.starts_with("ExecStart=") {
            for (name, value) in &wanted.variables {
                let value = plain(name, value)?;
                text += &format!("Environment={}\n", quoted(&format!("{name}={value}")));
            }
            let program = plain("this program", &wanted.program)?;
            if program.contains(['"', '\'', '\\']) {
                let (what, path) = ("this program".to_owned(), wanted.program.clone());
                let why = "holds a quote or a backslash, which systemd does not take in a program's name";
                return Err(ServiceError::Path { what, path, why });
            }
            text += &format!("ExecStart={} daemon\n", quoted(program));
        } else {
            text += &format!("{line}\n");
        }
    }
    Ok(text)
}

fn socket_text(wanted: &Wanted) -> Result<String, ServiceError> {
    let mut text = format!("{HEAD}{SOCKET}\n\n");
    for line in SOCKET_TEXT.lines() {
        match &wanted.socket {
            Some(path) if line.starts_with("ListenStream=") => {
                let wrong = |why| ServiceError::Path { what: "the socket".to_owned(), path: path.clone(), why };
                let socket = plain("the socket", path)?;
                if socket.len() > LONGEST_SOCKET {
                    return Err(wrong("is too long for a socket: 107 bytes are the most"));
                }
                // such a line cannot be quoted: blanks at its end are lost, and a backslash there goes on
                if socket.ends_with([' ', '\\']) {
                    return Err(wrong("ends with a blank or a backslash, which systemd does not take"));
                }
                text += &format!("ListenStream={}\n", socket.replace('%', "%%"));
            }
            _ => text += &format!("{line}\n"),
        }
    }
    Ok(text)
}

/// A word as systemd reads it back, if it is not a plain one.
fn quoted(word: &str) -> String {
    let safe = |letter: char| letter.is_alphanumeric() || "/._-+=:,@~".contains(letter);
    if word.chars().all(safe) {
        return word.to_owned();
    }
    let mut out = String::from("\"");
    for letter in word.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '%' => out.push_str("%%"),
            _ => out.push(letter),
        }
    }
    out.push('"');
    out
}

/// The first word of a command line, read back.
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

/// What a unit says, without comments and what differs from user to user.
fn essence(unit: &str) -> impl Iterator<Item = &str> {
    let says =
        |line: &&str| !line.is_empty() && !line.starts_with('#') && !OWN_LINES.iter().any(|own| line.starts_with(own));
    unit.lines().filter(says)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_systemd_reads_them() {
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
