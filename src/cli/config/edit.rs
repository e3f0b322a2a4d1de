//! `config edit`: on a copy, which becomes the file only when it is valid.

use std::fs;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use tempfile::TempDir;

use crate::config::{Config, ConfigErrors, ConfigProblem, LockedFile, MAX_FILE, template};

use super::super::context::Context;
use super::super::failure::Failure;
use super::super::output::Output;
use super::editor::Editor;
use super::set::failure;
use super::verdict::Verdict;

/// Nobody edits faster; an editor that ends so soon has not waited for its user.
const AT_ONCE: Duration = Duration::from_secs(1);

/// `config edit --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct Edited {
    /// The file.
    path: String,
    /// Whether it is another one than before.
    changed: bool,
    /// What is accepted, but does not do what one may expect.
    warnings: Vec<ConfigProblem>,
    /// What a running daemon makes of it; null if nothing was changed.
    daemon: Option<Verdict>,
}

/// The copy that is edited, in a directory that nobody else can look into.
#[derive(Debug)]
struct Copy {
    directory: TempDir,
    file: PathBuf,
}

/// How an edit ended that is to take effect, or not.
#[derive(Debug)]
enum Ended {
    Unchanged,
    Valid(String),
    Invalid(ConfigErrors),
}

/// Lets the user edit the file.
pub(super) fn edit(context: &Context) -> Result<u8, Failure> {
    let places = context.places()?;
    let path = &places.config;
    let output = &context.output;
    let editor = Editor::of_process().ok_or_else(|| {
        Failure::new("bad_request", "no editor is known").hint("name one: EDITOR=vi lessor config edit")
    })?;
    let before = now(path)?;
    let start = before.clone().unwrap_or_else(|| template().into_bytes());
    let copy = Copy::of(&start)?;
    let began = Instant::now();
    let mut told = false;
    let ended = rounds(
        &copy,
        &start,
        |file| run(&editor, file),
        |errors| {
            told = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
            told && ask_again(errors, &copy.file, output)
        },
    )?;
    let text = match ended {
        Ended::Valid(text) => text,
        Ended::Unchanged => {
            let edited = Edited { path: path.display().to_string(), changed: false, warnings: vec![], daemon: None };
            output.result(&edited, || "unchanged\n".to_owned())?;
            if began.elapsed() < AT_ONCE && output.terminal {
                output.note("hint: an editor with a window may need an option to wait, as in EDITOR='code --wait'");
            }
            return Ok(0);
        }
        Ended::Invalid(errors) => {
            let kept = copy.keep();
            let errors = if told { String::new() } else { format!(": it is not valid\n{errors}") };
            let message = format!("nothing was changed{errors}");
            return Err(Failure::config(message).hint(format!("your edit is kept in {}", kept.display())));
        }
    };
    if let Err(error) = swap(path, before.as_deref(), &text) {
        return Err(error.hint(format!("your edit is kept in {}", copy.keep().display())));
    }
    // once more under its own name, which the warnings tell
    let config = Config::parse(&text, path).map_err(|errors| Failure::config(errors.to_string()))?;
    for warning in config.check() {
        output.note(&format!("{} {warning}", output.strong("warning:")));
    }
    let warnings = config.check().to_vec();
    let verdict = Verdict::of_daemon(&places).beyond(&warnings);
    let exit = verdict.exit();
    let edited = Edited { path: path.display().to_string(), changed: true, warnings, daemon: Some(verdict) };
    output.result(&edited, || {
        let verdict = edited.daemon.as_ref().map(Verdict::words).unwrap_or_default();
        format!("saved {}\n{verdict}", edited.path)
    })?;
    Ok(exit)
}

/// What the file holds now. What is no text can still be mended in an editor; what is no file cannot.
fn now(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    match fs::read(path) {
        Ok(bytes) if bytes.len() <= MAX_FILE => Ok(Some(bytes)),
        // Reading it as what it should be tells best what is wrong.
        _ => Config::load(path).map(|_| None).map_err(|errors| Failure::config(errors.to_string())),
    }
}

/// Puts the text in place, unless somebody else has changed the file since.
fn swap(path: &Path, before: Option<&[u8]>, text: &str) -> Result<(), Failure> {
    let held = LockedFile::lock(path).map_err(failure)?;
    if held.bytes() != before {
        let message = format!("{} was changed by somebody else meanwhile, and stays as it is", path.display());
        return Err(Failure::new("changed_meanwhile", message));
    }
    held.replace(text).map_err(failure)
}

/// Edits until it is valid or the user has had enough.
fn rounds(
    copy: &Copy,
    start: &[u8],
    mut edit: impl FnMut(&Path) -> Result<(), Failure>,
    mut again: impl FnMut(&ConfigErrors) -> bool,
) -> Result<Ended, Failure> {
    loop {
        if let Err(failure) = edit(&copy.file) {
            let is_edited = fs::read(&copy.file).is_ok_and(|bytes| bytes != start);
            return Err(if is_edited {
                failure.hint(format!("what was edited is in {}", copy.file.display()))
            } else {
                failure
            });
        }
        let bytes = fs::read(&copy.file)
            .map_err(|error| Failure::new("bad_request", format!("the edited copy cannot be read: {error}")))?;
        if bytes == start {
            return Ok(Ended::Unchanged);
        }
        // The copy's own name would only puzzle.
        match Config::parse_bytes(bytes.clone(), Path::new("config.toml")) {
            Ok(_) => {
                let text = String::from_utf8(bytes).map_err(|error| Failure::new("internal", error.to_string()))?;
                return Ok(Ended::Valid(text));
            }
            Err(errors) if again(&errors) => {}
            Err(errors) => return Ok(Ended::Invalid(errors)),
        }
    }
}

fn run(editor: &Editor, file: &Path) -> Result<(), Failure> {
    let name = editor.name();
    let status = editor.open(file).map_err(|error| Failure::new("bad_request", format!("starting {name}: {error}")))?;
    if status.success() {
        return Ok(());
    }
    let failure =
        Failure::new("bad_request", format!("the editor ended with {status}, so nothing was changed: {name}"));
    Err(if status.code() == Some(127) { failure.hint("name another: EDITOR=vi lessor config edit") } else { failure })
}

/// Asks a person at a terminal.
fn ask_again(errors: &ConfigErrors, file: &Path, output: &Output) -> bool {
    let (error, file) = (output.bad("error:"), file.display());
    output.note(&format!("{errors}\n\n{error} this is not valid, and not in effect; it is in {file}"));
    loop {
        eprint!("Edit again? [Y/n] ");
        let _unseen = std::io::stderr().flush();
        let mut answer = String::new();
        match std::io::stdin().lock().read_line(&mut answer) {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
        match answer.trim().to_ascii_lowercase().as_str() {
            "" | "y" | "yes" => return true,
            "n" | "no" | "q" => return false,
            _ => {}
        }
    }
}

impl Copy {
    fn of(bytes: &[u8]) -> Result<Self, Failure> {
        let make = || -> std::io::Result<Self> {
            let mut private = tempfile::Builder::new();
            private.prefix("lessor-config-");
            #[cfg(unix)]
            private.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
            let directory = private.tempdir()?;
            let file = directory.path().join("config.toml");
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options.open(&file)?.write_all(bytes)?;
            Ok(Self { directory, file })
        };
        make().map_err(|error| Failure::new("internal", format!("making a copy to edit: {error}")))
    }

    /// Leaves the copy for the user.
    fn keep(self) -> PathBuf {
        let _left = self.directory.keep();
        self.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the rounds come to, and how often the user was asked.
    fn rounds_of(contents: &[&str], answers: &[bool]) -> (Result<Ended, Failure>, usize) {
        let copy = Copy::of(b"start").unwrap();
        let (mut contents, mut asked) = (contents.iter(), 0);
        let edit = |file: &Path| match contents.next() {
            Some(text) => fs::write(file, text).map_err(|error| Failure::new("internal", error.to_string())),
            None => Err(Failure::new("bad_request", "no more")),
        };
        let ended = rounds(&copy, b"start", edit, |_| {
            asked += 1;
            answers[asked - 1]
        });
        (ended, asked)
    }

    #[test]
    fn it_goes_on_until_it_is_valid_or_the_user_has_had_enough() {
        let good = "leases.ttl = \"1m\"";
        assert!(matches!(rounds_of(&[good], &[]), (Ok(Ended::Valid(text)), 0) if text == good));
        assert!(matches!(rounds_of(&["x = 1", "x = 2", good], &[true, true]), (Ok(Ended::Valid(_)), 2)));
        assert!(matches!(rounds_of(&["x = 1", "start"], &[true]), (Ok(Ended::Unchanged), 1)));
        assert!(matches!(rounds_of(&["x = 1"], &[false]), (Ok(Ended::Invalid(_)), 1)));
        assert!(matches!(rounds_of(&["x = 1"], &[true]), (Err(_), 1)));
        assert!(matches!(rounds_of(&["start"], &[]), (Ok(Ended::Unchanged), 0)));
    }
}
