//! The user's own settings of an agent: read, laid under ours for one program, never written.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::cli::failure::Failure;
use crate::provider::{Addition, Outfit};

/// The file of settings that come last.
pub(super) const LAST: &str = "settings.json";
/// No settings are longer.
const LONGEST: u64 = 1 << 20;

type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The user's settings with ours laid over them: the variable to set, the text, and the file it belongs in, if it does.
pub(super) fn added<'a>(
    addition: &'a Addition,
    variable: Variable<'_>,
) -> Result<(&'a str, String, Option<&'static str>), Failure> {
    match addition {
        Addition::InVariable(name, ours) => {
            let users = variable(name).map(|value| value.to_string_lossy().into_owned());
            let merged = merged(users.as_deref(), ours).ok_or_else(|| not_json(&format!("the variable {name}")))?;
            Ok((name, merged, None))
        }
        Addition::InFile(name, shared, ours) => {
            let path = variable(name).map_or_else(|| PathBuf::from(shared.here()), PathBuf::from);
            let users = read(&path);
            let merged =
                merged(users.as_deref(), ours).ok_or_else(|| not_json(&format!("the file {}", path.display())))?;
            Ok((name, merged, Some(LAST)))
        }
    }
}

fn not_json(what: &str) -> Failure {
    Failure::new("config_invalid", format!("{what} holds no JSON object, so nothing can be added to it"))
        .hint("correct it, or unset it for this command")
}

fn merged(users: Option<&str>, ours: &Value) -> Option<String> {
    let mut all = match users.filter(|text| !text.trim().is_empty()) {
        Some(text) => parse(text)?,
        None => Map::new(),
    };
    lay_over(&mut all, ours.as_object()?);
    Some(Value::Object(all).to_string())
}

/// Members of `ours` win; objects in both are laid over each other.
fn lay_over(under: &mut Map<String, Value>, ours: &Map<String, Value>) {
    for (name, value) in ours {
        match (under.get_mut(name), value) {
            (Some(Value::Object(under)), Value::Object(ours)) => lay_over(under, ours),
            _ => drop(under.insert(name.clone(), value.clone())),
        }
    }
}

/// An object; comments are allowed, as the agents allow them.
fn parse(text: &str) -> Option<Map<String, Value>> {
    let parsed = serde_json::from_str(text).or_else(|_| serde_json::from_str(&without_comments(text)));
    match parsed {
        Ok(Value::Object(members)) => Some(members),
        _ => None,
    }
}

fn without_comments(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    let mut in_text = false;
    while let Some(letter) = letters.next() {
        match (letter, letters.peek()) {
            ('\\', Some(next)) if in_text => {
                plain.extend([letter, *next]);
                letters.next();
                continue;
            }
            ('/', Some('/')) if !in_text => {
                while letters.next_if(|letter| *letter != '\n').is_some() {}
                continue;
            }
            ('/', Some('*')) if !in_text => {
                letters.next();
                let mut before = ' ';
                for letter in letters.by_ref() {
                    if (before, letter) == ('*', '/') {
                        break;
                    }
                    before = letter;
                }
                plain.push(' ');
                continue;
            }
            ('"', _) => in_text = !in_text,
            _ => {}
        }
        plain.push(letter);
    }
    plain
}

fn read(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    (metadata.is_file() && metadata.len() <= LONGEST).then(|| std::fs::read_to_string(path).ok()).flatten()
}

/// The variables of ours that the user's own settings would set otherwise.
pub(super) fn overruled(outfit: &Outfit, variable: Variable<'_>, home: Option<&Path>) -> Vec<String> {
    let Some(theirs) = outfit.overruled else { return Vec::new() };
    let (name, below_home) = theirs.home;
    let home = variable(name).map(PathBuf::from).or_else(|| home.map(|home| home.join(below_home)));
    let in_home = theirs.in_home.iter().filter_map(|file| home.as_ref().map(|home| home.join(file)));
    let mut found: Vec<String> = Vec::new();
    for path in in_home.chain(theirs.in_project.iter().map(PathBuf::from)) {
        let Some(settings) = read(&path).as_deref().and_then(parse) else { continue };
        let names = settings.get("env").and_then(Value::as_object).into_iter().flat_map(Map::keys);
        for name in names {
            let ours = outfit.set.iter().any(|(set, _)| set == name) || outfit.cleared.contains(&name.as_str());
            if ours && !found.contains(name) {
                found.push(name.clone());
            }
        }
    }
    found
}

/// Settings that say again what the environment says, and that nothing else of `overruled` is set.
pub(super) fn last(outfit: &Outfit, overruled: &[String]) -> String {
    let cleared = overruled.iter().map(|name| (name.clone(), Value::from("")));
    let set = outfit.set.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
    let env: Map<String, Value> = cleared.chain(set).collect();
    serde_json::json!({ "env": env }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::CredentialKind;
    use crate::provider::{HandOut, Handed, outfit};

    fn of(provider: &str, agent: &str) -> Outfit {
        let handed = Handed {
            hand_out: HandOut::Gateway,
            provider,
            kind: CredentialKind::ApiKey,
            agent: Some(agent),
            key: "sk-key",
            base: Some("http://127.0.0.1:7/p"),
            directory: "/d",
            expires_at: None,
            project: None,
        };
        outfit(&handed).unwrap()
    }

    #[test]
    fn what_the_user_has_stays_beside_ours() {
        let outfit = of("anthropic", "opencode");
        let users = r#"{"theme":"x","provider":{"anthropic":{"options":{"baseURL":"http://other","timeout":5}}}}"#;
        for (users, expected) in [
            (None, Some((None, None))),
            (Some(users), Some((Some("x"), Some(5)))),
            (Some("// mine\n{\"theme\": \"//\" /* so */}"), Some((Some("//"), None))),
            (Some("[]"), None),
            (Some("{"), None),
        ] {
            let added = added(&outfit.additions[0], &|_| users.map(OsString::from));
            let merged = added.ok().map(|(_, text, _)| serde_json::from_str::<Value>(&text).unwrap());
            let seen = merged.as_ref().map(|merged| {
                let options = &merged["provider"]["anthropic"]["options"];
                assert_eq!(options["baseURL"], "http://127.0.0.1:7/p/v1");
                (merged["theme"].as_str(), options["timeout"].as_i64())
            });
            assert_eq!(seen, expected, "{users:?}");
        }
    }

    #[test]
    fn settings_that_would_win_are_found_and_answered() {
        let home = tempfile::tempdir().unwrap();
        let outfit = of("anthropic", "claude");
        let file = home.path().join("settings.json");
        let variable = |name: &str| (name == "CLAUDE_CONFIG_DIR").then(|| home.path().into());
        assert!(overruled(&outfit, &variable, None).is_empty());
        std::fs::write(&file, r#"{"env":{"EDITOR":"vi","ANTHROPIC_BASE_URL":"x","ANTHROPIC_API_KEY":"y"}}"#).unwrap();
        let found = overruled(&outfit, &variable, None);
        assert_eq!(found, ["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"]);
        let last: Value = serde_json::from_str(&last(&outfit, &found)).unwrap();
        assert_eq!(last["env"]["ANTHROPIC_BASE_URL"], "http://127.0.0.1:7/p");
        assert_eq!(last["env"]["ANTHROPIC_API_KEY"], "");
        assert!(overruled(&of("anthropic", "python"), &variable, None).is_empty(), "only claude reads them");
    }
}
