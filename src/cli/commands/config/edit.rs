//! `config edit`: edits a copy, which replaces the file only if it is valid.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io::Write};

use schemars::JsonSchema;
use serde::Serialize;
use tempfile::TempDir;

use super::{editor::Editor, reload::ReloadOutcome, set::swap_error};
use crate::cli::ui::{Output, Tint, prompt};
use crate::cli::{context::Context, error::CliError};
use crate::config::{Config, ConfigErrors, ConfigProblem, LockedFile, MAX_FILE, template};
use crate::protocol::ErrorKind;

/// An editor that ends sooner has probably not waited for the user.
const MIN_EDIT_TIME: Duration = Duration::from_secs(1);

/// `config edit --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigEditResult {
    /// The file.
    path: String,
    /// Whether the file was changed.
    changed: bool,
    /// What is valid, but may not have the expected effect.
    warnings: Vec<ConfigProblem>,
    /// What happened when a running daemon read it; null if nothing was changed.
    daemon: Option<ReloadOutcome>,
}

#[derive(Debug)]
struct EditCopy {
    directory: TempDir,
    file: PathBuf,
}

#[derive(Debug)]
enum EditEnd {
    Unchanged,
    Valid(String),
    Invalid(ConfigErrors),
}

pub(super) fn edit(context: &Context) -> Result<u8, CliError> {
    let places = context.places()?;
    let path = &places.config;
    let output = &context.output;
    let editor = Editor::of_process()
        .ok_or_else(|| CliError::bad_request("no editor was found").hint("name one: EDITOR=vi lessor config edit"))?;
    let before = read_current(path)?;
    let start = before.clone().unwrap_or_else(|| template().into_bytes());
    let copy = EditCopy::of(&start)?;
    let began = Instant::now();
    let mut was_asked = false;
    let ended = edit_until_valid(
        &copy,
        &start,
        |file| run(&editor, file),
        |errors| {
            was_asked = prompt::can_ask();
            was_asked && ask_again(errors, &copy.file, output)
        },
    )?;
    let text = match ended {
        EditEnd::Valid(text) => text,
        EditEnd::Unchanged => {
            let edited =
                ConfigEditResult { path: path.display().to_string(), changed: false, warnings: vec![], daemon: None };
            output.result(&edited, || "unchanged\n".to_owned())?;
            if began.elapsed() < MIN_EDIT_TIME && output.terminal {
                output.note(
                    "hint: a graphical editor may need an option to wait: EDITOR='code --wait' lessor config edit",
                );
            }
            return Ok(0);
        }
        EditEnd::Invalid(errors) => {
            let kept = copy.keep();
            let errors = if was_asked { String::new() } else { format!(": it is not valid\n{errors}") };
            let message = format!("nothing was changed{errors}");
            return Err(CliError::config(message).hint(format!("your edit is kept in {}", kept.display())));
        }
    };
    if let Err(error) = replace(path, before.as_deref(), &text) {
        return Err(error.hint(format!("your edit is kept in {}", copy.keep().display())));
    }
    // parsed again with the path of the file, which the warnings name
    let config = Config::parse(&text, path).map_err(|errors| CliError::config(errors.to_string()))?;
    for warning in config.check() {
        output.labelled_note(Tint::Strong, "warning:", &warning.to_string());
    }
    let warnings = config.check().to_vec();
    let outcome = ReloadOutcome::of_daemon(&places).without(&warnings);
    let exit = outcome.exit();
    let edited = ConfigEditResult { path: path.display().to_string(), changed: true, warnings, daemon: Some(outcome) };
    output.result(&edited, || {
        let outcome = edited.daemon.as_ref().map(ReloadOutcome::text).unwrap_or_default();
        output.prose(&format!("saved {}\n{outcome}", edited.path))
    })?;
    Ok(exit)
}

/// The content of the file. Invalid text can be corrected in the editor; anything but a file cannot.
fn read_current(path: &Path) -> Result<Option<Vec<u8>>, CliError> {
    match fs::read(path) {
        Ok(bytes) if bytes.len() <= MAX_FILE => Ok(Some(bytes)),
        // loading it gives the best error message
        _ => Config::load(path).map(|_| None).map_err(|errors| CliError::config(errors.to_string())),
    }
}

fn replace(path: &Path, before: Option<&[u8]>, text: &str) -> Result<(), CliError> {
    let held = LockedFile::lock(path).map_err(swap_error)?;
    if held.bytes() != before {
        let message =
            format!("{} was changed by another program in the meantime, and was not replaced", path.display());
        return Err(CliError::new(ErrorKind::ChangedMeanwhile, message));
    }
    held.replace(text).map_err(swap_error)
}

fn edit_until_valid(
    copy: &EditCopy,
    start: &[u8],
    mut edit: impl FnMut(&Path) -> Result<(), CliError>,
    mut again: impl FnMut(&ConfigErrors) -> bool,
) -> Result<EditEnd, CliError> {
    loop {
        if let Err(error) = edit(&copy.file) {
            let is_edited = fs::read(&copy.file).is_ok_and(|bytes| bytes != start);
            return Err(if is_edited {
                error.hint(format!("your edit is kept in {}", copy.file.display()))
            } else {
                error
            });
        }
        let bytes = fs::read(&copy.file)
            .map_err(|error| CliError::bad_request(format!("the edited copy cannot be read: {error}")))?;
        if bytes == start {
            return Ok(EditEnd::Unchanged);
        }
        // errors name the file, not the copy
        match Config::parse_bytes(bytes.clone(), Path::new("config.toml")) {
            Ok(_) => {
                let text = String::from_utf8(bytes).map_err(|error| CliError::internal(error.to_string()))?;
                return Ok(EditEnd::Valid(text));
            }
            Err(errors) if again(&errors) => {}
            Err(errors) => return Ok(EditEnd::Invalid(errors)),
        }
    }
}

fn run(editor: &Editor, file: &Path) -> Result<(), CliError> {
    let name = editor.name();
    let status = editor.open(file).map_err(|error| CliError::bad_request(format!("starting {name}: {error}")))?;
    if status.success() {
        return Ok(());
    }
    let error = CliError::bad_request(format!("the editor ended with {status}, so nothing was changed: {name}"));
    Err(if status.code() == Some(127) { error.hint("name another: EDITOR=vi lessor config edit") } else { error })
}

fn ask_again(errors: &ConfigErrors, file: &Path, output: &Output) -> bool {
    output.note(&format!("{errors}\n"));
    let text = format!("this is not valid, and not in effect; it is in {}", file.display());
    output.labelled_note(Tint::Bad, "error:", &text);
    loop {
        match prompt::ask("Edit again? [Y/n]", output).ok().flatten().as_deref() {
            Some("" | "y" | "yes") => return true,
            None | Some("n" | "no" | "q") => return false,
            Some(_) => {}
        }
    }
}

impl EditCopy {
    fn of(bytes: &[u8]) -> Result<Self, CliError> {
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
        make().map_err(|error| CliError::internal(format!("making a copy to edit: {error}")))
    }

    fn keep(self) -> PathBuf {
        let _left = self.directory.keep();
        self.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result, and how often the user was asked.
    fn edits(contents: &[&str], answers: &[bool]) -> (Result<EditEnd, CliError>, usize) {
        let copy = EditCopy::of(b"start").unwrap();
        let (mut contents, mut asked) = (contents.iter(), 0);
        let edit = |file: &Path| match contents.next() {
            Some(text) => fs::write(file, text).map_err(|error| CliError::internal(error.to_string())),
            None => Err(CliError::bad_request("no more")),
        };
        let ended = edit_until_valid(&copy, b"start", edit, |_| {
            asked += 1;
            answers[asked - 1]
        });
        (ended, asked)
    }

    #[test]
    fn editing_continues_until_the_copy_is_valid_or_the_user_stops() {
        let good = "leases.ttl = \"1m\"";
        assert!(matches!(edits(&[good], &[]), (Ok(EditEnd::Valid(text)), 0) if text == good));
        assert!(matches!(edits(&["x = 1", "x = 2", good], &[true, true]), (Ok(EditEnd::Valid(_)), 2)));
        assert!(matches!(edits(&["x = 1", "start"], &[true]), (Ok(EditEnd::Unchanged), 1)));
        assert!(matches!(edits(&["x = 1"], &[false]), (Ok(EditEnd::Invalid(_)), 1)));
        assert!(matches!(edits(&["x = 1"], &[true]), (Err(_), 1)));
        assert!(matches!(edits(&["start"], &[]), (Ok(EditEnd::Unchanged), 0)));
    }
}
