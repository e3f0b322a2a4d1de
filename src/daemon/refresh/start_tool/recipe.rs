//! How each vendor's program is made to refresh its login without a person, as a table.

use std::path::Path;

use serde_json::Value;

use crate::credential::import::discover::{DiscoveryError, take};
use crate::credential::import::{parse, wipe};
use crate::credential::{LoginProgram, Secret, share};
use crate::pool::Wall;

/// How a program is made to refresh its login.
#[derive(Debug)]
pub(super) struct ToolRecipe {
    pub(super) program: LoginProgram,
    /// Its arguments, the cheapest first: the next ones are tried if these have brought no newer token.
    pub(super) commands: &'static [&'static [&'static str]],
    /// What it finds in its environment, beside what its home sets.
    pub(super) variables: &'static [(&'static str, &'static str)],
    /// The object in its file that contains the tokens, and how it states the end of the access token.
    tokens: &'static str,
    end: TokenEnd,
}

/// How a file states when its access token ends.
#[derive(Clone, Copy, Debug)]
enum TokenEnd {
    /// Epoch milliseconds under this name.
    Milliseconds(&'static str),
    /// A time of RFC 3339 under this name.
    Rfc3339(&'static str),
}

const RECIPES: &[ToolRecipe] = &[
    ToolRecipe {
        program: LoginProgram::Gemini,
        // listing the sessions signs in and asks no model (seen with 0.61), and with `--debug` it says why a token was
        // rejected; an earlier version may not know the option
        commands: &[&["--list-sessions", "--debug"], &["-p", PROMPT]],
        variables: &[
            // the kind of login, whatever its settings say
            ("GOOGLE_GENAI_USE_GCA", "true"),
            // it starts in an empty directory of lessor's
            ("GEMINI_CLI_TRUST_WORKSPACE", "true"),
            // it neither opens a browser nor starts itself again, which would hide it from a signal
            ("NO_BROWSER", "true"),
            ("GEMINI_CLI_NO_RELAUNCH", "true"),
        ],
        tokens: "",
        end: TokenEnd::Milliseconds("expiry_date"),
    },
    ToolRecipe {
        program: LoginProgram::Agy,
        // its list of models needs a login and asks no model; a prompt rewrites the file (seen by others with 1.2.7)
        commands: &[&["models"], &["-p", PROMPT]],
        variables: &[
            // it uses its file and not a keyring where it takes the session for a remote one
            ("SSH_CONNECTION", "127.0.0.1 22 127.0.0.1 22"),
            ("AGY_CLI_DISABLE_AUTO_UPDATE", "true"),
        ],
        tokens: "token",
        end: TokenEnd::Rfc3339("expiry"),
    },
];

/// The smallest request.
const PROMPT: &str = "Reply with exactly: OK";
/// How far in the past the end of a token is put: more than clocks differ.
const LONG_AGO_MS: u64 = 3_600_000;

/// Why a file could not be prepared.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndTokenError {
    #[error("its file cannot be read: {0}")]
    Unreadable(#[from] DiscoveryError),
    #[error("its file contains no login")]
    NoLogin,
    #[error("its file cannot be written: {0}")]
    Unwritable(std::io::Error),
}

impl ToolRecipe {
    /// The recipe for a program; `None` for one whose logins lessor refreshes itself.
    pub(super) fn of(program: LoginProgram) -> Option<&'static Self> {
        RECIPES.iter().find(|recipe| recipe.program == program)
    }

    /// Has the program's file say that the access token has ended: both programs refresh it only then, minutes or
    /// seconds before its end. The token itself stays valid, and everything else in the file as it is. A program that
    /// has lost the refresh token gets it back.
    pub(super) fn end_token(&self, file: &Path, refresh: Option<&Secret>, now: Wall) -> Result<(), EndTokenError> {
        let taken = take(file)?;
        let mut document = parse(&taken.bytes).map_err(DiscoveryError::Content)?;
        let changed = self.mark(&mut document, refresh, now);
        let text = changed.map(|()| zeroize::Zeroizing::new(serde_json::to_string(&document).unwrap_or_default()));
        wipe(&mut document);
        let text = text.ok_or(EndTokenError::NoLogin)?;
        share::replace(file, text.as_bytes()).map_err(EndTokenError::Unwritable)
    }

    fn mark(&self, document: &mut Value, refresh: Option<&Secret>, now: Wall) -> Option<()> {
        let tokens = if self.tokens.is_empty() { document } else { document.get_mut(self.tokens)? };
        let tokens = tokens.as_object_mut()?;
        let past = now.0.saturating_sub(LONG_AGO_MS);
        let (name, end) = match self.end {
            TokenEnd::Milliseconds(name) => (name, Value::from(past)),
            TokenEnd::Rfc3339(name) => {
                let at = jiff::Timestamp::from_millisecond(i64::try_from(past).ok()?).ok()?;
                (name, Value::from(at.to_string()))
            }
        };
        tokens.insert(name.to_owned(), end);
        let is_lost = tokens.get("refresh_token").and_then(Value::as_str).is_none_or(str::is_empty);
        match refresh {
            Some(refresh) if is_lost => {
                tokens.insert("refresh_token".to_owned(), refresh.expose().into());
            }
            _ if is_lost => return None,
            _ => {}
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Wall = Wall(1_780_000_000_000);

    #[test]
    fn a_file_states_that_its_token_has_ended_and_keeps_everything_else() {
        let secret = Secret::new("1//rt".to_owned());
        for (program, before, after) in [
            (
                LoginProgram::Gemini,
                json!({ "access_token": "at", "refresh_token": "rt", "expiry_date": 9, "id_token": "x", "scope": "s" }),
                json!({ "access_token": "at", "refresh_token": "rt", "expiry_date": 1_779_996_400_000_u64,
                        "id_token": "x", "scope": "s" }),
            ),
            // after a refresh it may have written its file without the refresh token
            (
                LoginProgram::Gemini,
                json!({ "access_token": "at", "expiry_date": 9 }),
                json!({ "access_token": "at", "expiry_date": 1_779_996_400_000_u64, "refresh_token": "1//rt" }),
            ),
            (
                LoginProgram::Agy,
                json!({ "auth_method": "consumer", "token": { "access_token": "at", "refresh_token": "rt",
                        "expiry": "2026-11-30T07:00:00+09:00" } }),
                json!({ "auth_method": "consumer", "token": { "access_token": "at", "refresh_token": "rt",
                        "expiry": "2026-05-28T19:26:40Z" } }),
            ),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("login");
            std::fs::write(&file, before.to_string()).unwrap();
            ToolRecipe::of(program).unwrap().end_token(&file, Some(&secret), NOW).unwrap();
            let now: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            assert_eq!(now, after, "{program:?}");
        }
    }

    #[test]
    fn a_file_without_a_login_stays_as_it_is() {
        let recipe = ToolRecipe::of(LoginProgram::Agy).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("login");
        assert!(recipe.end_token(&file, None, NOW).unwrap_err().to_string().contains("no such file"));
        for content in ["{}", r#"{"token":{"access_token":"at"}}"#, r#"{"token":"#] {
            std::fs::write(&file, content).unwrap();
            assert!(recipe.end_token(&file, None, NOW).is_err(), "{content}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), content);
        }
        assert!(ToolRecipe::of(LoginProgram::Claude).is_none(), "lessor refreshes its logins itself");
    }
}
