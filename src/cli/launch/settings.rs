//! The user's settings of an agent: read, and merged with lessor's for one program; the user's files are never written.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::provider::{AgentSetup, MergedJson};
use crate::{cli::error::CliError, protocol::ErrorKind};

/// The settings file with the highest priority.
pub(super) const FILE: &str = "settings.json";
/// Larger settings files are ignored, in bytes.
const MAX_SIZE: u64 = 1 << 20;

type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The user's settings merged with an addition: the variable to set, the text, and the file to write it to, if any.
pub(super) fn with_addition<'a>(
    addition: &'a MergedJson,
    variable: Variable<'_>,
) -> Result<(&'a str, String, Option<&'static str>), CliError> {
    match addition {
        MergedJson::InVariable(name, ours) => {
            let users = variable(name).map(|value| value.to_string_lossy().into_owned());
            let merged = merged(users.as_deref(), ours).ok_or_else(|| not_json(&format!("the variable {name}")))?;
            Ok((name, merged, None))
        }
        MergedJson::InFile(name, shared, ours) => {
            let path = variable(name).map_or_else(|| PathBuf::from(shared.here()), PathBuf::from);
            let users = read(&path);
            let merged =
                merged(users.as_deref(), ours).ok_or_else(|| not_json(&format!("the file {}", path.display())))?;
            Ok((name, merged, Some(FILE)))
        }
    }
}

fn not_json(what: &str) -> CliError {
    CliError::new(
        ErrorKind::ConfigInvalid,
        format!("{what} does not contain a JSON object, so settings cannot be added to it"),
    )
    .hint("correct it, or unset the variable for this command")
}

fn merged(users: Option<&str>, ours: &Value) -> Option<String> {
    let mut all = match users.filter(|text| !text.trim().is_empty()) {
        Some(text) => parse(text)?,
        None => Map::new(),
    };
    merge_into(&mut all, ours.as_object()?);
    Some(Value::Object(all).to_string())
}

/// Adds the members of `ours`, replacing those of `base`; objects are merged.
fn merge_into(base: &mut Map<String, Value>, ours: &Map<String, Value>) {
    for (name, value) in ours {
        match (base.get_mut(name), value) {
            (Some(Value::Object(base)), Value::Object(ours)) => merge_into(base, ours),
            _ => drop(base.insert(name.clone(), value.clone())),
        }
    }
}

/// Parses an object; comments are allowed, as in the agents.
fn parse(text: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(text).or_else(|_| serde_json::from_str(&without_comments(text))).ok()
}

fn without_comments(text: &str) -> String {
    let mut stripped = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    let mut in_text = false;
    while let Some(letter) = letters.next() {
        match (letter, letters.peek()) {
            ('\\', Some(next)) if in_text => {
                stripped.extend([letter, *next]);
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
                stripped.push(' ');
                continue;
            }
            ('"', _) => in_text = !in_text,
            _ => {}
        }
        stripped.push(letter);
    }
    stripped
}

fn read(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    (metadata.is_file() && metadata.len() <= MAX_SIZE).then(|| std::fs::read_to_string(path).ok()).flatten()
}

/// The names in the user's settings that would override the variables of lessor.
pub(super) fn conflicts(outfit: &AgentSetup, variable: Variable<'_>, home: Option<&Path>) -> Vec<String> {
    let Some(theirs) = outfit.overriding else { return Vec::new() };
    let (name, below_home) = theirs.home;
    let home = variable(name).map(PathBuf::from).or_else(|| home.map(|home| home.join(below_home)));
    let in_home = theirs.in_home.iter().filter_map(|file| home.as_ref().map(|home| home.join(file)));
    let mut found: Vec<String> = Vec::new();
    for path in in_home.chain(theirs.in_project.iter().map(PathBuf::from)) {
        let Some(settings) = read(&path).as_deref().and_then(parse) else { continue };
        let variables = settings.get("env").and_then(Value::as_object).into_iter().flat_map(Map::keys);
        let ours = |name: &&String| outfit.sets(name) || outfit.is_unset(name);
        let members = settings.keys().filter(|name| theirs.members.contains(&name.as_str()));
        for name in variables.filter(ours).chain(members) {
            if !found.contains(name) {
                found.push(name.clone());
            }
        }
    }
    found
}

/// The launcher that the user or the machine has set for Claude Code's processes in its settings: in `env`, which overrides
/// the environment, or as `processWrapper`, which the environment overrides.
pub(super) fn process_wrapper(
    name: &str,
    variable: Variable<'_>,
    home: Option<&Path>,
) -> (Option<String>, Option<String>) {
    const MACHINE_WIDE: &str = if cfg!(target_os = "macos") {
        "/Library/Application Support/ClaudeCode/managed-settings.json"
    } else {
        "/etc/claude-code/managed-settings.json"
    };
    let home = variable("CLAUDE_CONFIG_DIR").map(PathBuf::from).or_else(|| home.map(|home| home.join(".claude")));
    let files = [Some(PathBuf::from(MACHINE_WIDE)), home.map(|home| home.join("settings.json"))];
    let all: Vec<Map<String, Value>> =
        files.into_iter().flatten().filter_map(|path| read(&path).as_deref().and_then(parse)).collect();
    let text = |value: Option<&Value>| value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let in_env = all.iter().find_map(|settings| text(settings.get("env").and_then(|env| env.get(name))));
    (in_env, all.iter().find_map(|settings| text(settings.get("processWrapper"))))
}

/// Settings that repeat the variables of lessor, and empty the other `conflicts`.
pub(super) fn overrides(outfit: &AgentSetup, conflicts: &[String]) -> String {
    let members = outfit.overriding.map(|theirs| theirs.members).unwrap_or_default();
    let is_member = |name: &&String| members.contains(&name.as_str());
    let emptied = |name: &String| (name.clone(), Value::from(""));
    let set = outfit.set.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
    let env: Map<String, Value> = conflicts.iter().filter(|name| !is_member(name)).map(emptied).chain(set).collect();
    let mut all: Map<String, Value> = conflicts.iter().filter(is_member).map(emptied).collect();
    all.insert("env".to_owned(), env.into());
    Value::from(all).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{CredentialKind, Tier};
    use crate::provider::{HandOut, HandOutRequest, agent_setup};

    fn of(provider: &str, agent: &str) -> AgentSetup {
        of_kind(provider, agent, CredentialKind::ApiKey)
    }

    fn of_kind(provider: &str, agent: &str, kind: CredentialKind) -> AgentSetup {
        let handed = HandOutRequest {
            hand_out: HandOut::Gateway,
            provider,
            kind,
            agent: Some(agent),
            key: "sk-key",
            base: Some("http://127.0.0.1:7/p"),
            secure_base: None,
            socket: None,
            ca_file: None,
            ca_bundle: None,
            websocket: false,
            directory: "/d",
            expires_at: None,
            project: None,
            tier: Tier::Unknown,
            account_id: None,
            now: "",
        };
        agent_setup(&handed).unwrap()
    }

    #[test]
    fn settings_of_the_user_are_kept() {
        let outfit = of("anthropic", "opencode");
        let users = r#"{"theme":"x","provider":{"anthropic":{"options":{"baseURL":"http://other","timeout":5}}}}"#;
        for (users, expected) in [
            (None, Some((None, None))),
            (Some(users), Some((Some("x"), Some(5)))),
            (Some("// mine\n{\"theme\": \"//\" /* so */}"), Some((Some("//"), None))),
            (Some("[]"), None),
            (Some("{"), None),
        ] {
            let added = with_addition(&outfit.additions[0], &|_| users.map(OsString::from));
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
    fn the_users_launcher_is_found_in_the_settings() {
        let home = tempfile::tempdir().unwrap();
        let variable = |name: &str| (name == "CLAUDE_CONFIG_DIR").then(|| home.path().into());
        let found = |text: &str| {
            std::fs::write(home.path().join("settings.json"), text).unwrap();
            process_wrapper("WRAPPER", &variable, None)
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(found(r#"{"env":{"WRAPPER":"/a"},"processWrapper":"/b c"}"#), (text("/a"), text("/b c")));
        assert_eq!(found(r#"{"env":{"OTHER":"/a"}}"#), (None, None));
    }

    #[test]
    fn settings_that_would_override_the_lease_are_found_and_overridden() {
        let home = tempfile::tempdir().unwrap();
        let outfit = of("anthropic", "claude");
        let file = home.path().join("settings.json");
        let variable = |name: &str| (name == "CLAUDE_CONFIG_DIR").then(|| home.path().into());
        assert!(conflicts(&outfit, &variable, None).is_empty());
        std::fs::write(&file, r#"{"env":{"EDITOR":"vi","ANTHROPIC_BASE_URL":"x","ANTHROPIC_API_KEY":"y"}}"#).unwrap();
        let found = conflicts(&outfit, &variable, None);
        assert_eq!(found, ["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"]);
        let overrides: Value = serde_json::from_str(&overrides(&outfit, &found)).unwrap();
        assert_eq!(overrides["env"]["ANTHROPIC_BASE_URL"], "http://127.0.0.1:7/p");
        assert_eq!(overrides["env"]["ANTHROPIC_API_KEY"], "");
        assert!(conflicts(&of("anthropic", "python"), &variable, None).is_empty(), "only claude reads them");
    }

    /// A command for a key would take the place of a login's token, but not of a key.
    #[test]
    fn a_command_for_a_key_is_overridden_where_it_would_take_the_credential_s_place() {
        let home = tempfile::tempdir().unwrap();
        let variable = |name: &str| (name == "CLAUDE_CONFIG_DIR").then(|| home.path().into());
        std::fs::write(home.path().join("settings.json"), r#"{"apiKeyHelper":"k","env":{"EDITOR":"vi"}}"#).unwrap();
        assert!(conflicts(&of("anthropic", "claude"), &variable, None).is_empty());
        let login = of_kind("anthropic", "claude", CredentialKind::Oauth);
        let found = conflicts(&login, &variable, None);
        assert_eq!(found, ["apiKeyHelper"]);
        let overrides: Value = serde_json::from_str(&overrides(&login, &found)).unwrap();
        assert_eq!(overrides["apiKeyHelper"], "");
        assert_eq!(overrides["env"]["CLAUDE_CODE_OAUTH_TOKEN"], "sk-key");
        assert_eq!(overrides["env"].get("apiKeyHelper"), None);
    }
}
