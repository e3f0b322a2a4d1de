//! An OAuth client of the user's in a file: the JSON that Google offers for download, or JSON or TOML with `client_id`
//! and `client_secret`.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::cli::{context::Context, error::CliError, launch::quoted, ui::clean};
use crate::client::Client;
use crate::credential::oauth::OauthConfig;
use crate::protocol::{ErrorKind, SecretText, SetSecretParams};

/// No such file is larger, in bytes.
const MAX_FILE: u64 = 64 * 1024;
/// How the ids of Google's clients end.
const GOOGLE_IDS: &str = ".apps.googleusercontent.com";
const FIELDS: [&str; 3] = ["name", "client_id", "client_secret"];

#[derive(PartialEq)]
struct ClientFile {
    name: Option<String>,
    client_id: String,
    secret: Option<Zeroizing<String>>,
    /// It is Google's file of a client for web applications.
    is_web: bool,
}

/// The id of the client that `--client` names; one in a file is stored first, with its secret.
pub(super) fn client_id(
    named: &str,
    provider: &str,
    given: &OauthConfig,
    daemon: &mut Client,
    context: &Context,
) -> Result<String, CliError> {
    let path = Path::new(named);
    let is_path = named.contains(std::path::is_separator) || path.extension().is_some_and(is_extension);
    match given.client_named(named) {
        Ok(id) if !is_path || !path.exists() => return Ok(id.to_owned()),
        Err(why) if !is_path && !path.is_file() => {
            let hint = "name a file of the client, or see: lessor secrets list";
            return Err(CliError::new(ErrorKind::NotConfigured, why).hint(hint));
        }
        _ => {}
    }
    let place = clean(&path.display().to_string());
    let bad = |why: String| CliError::bad_request(format!("{place}: {why}"));
    let unusable = |why: String| {
        bad(why)
            .hint("a file has `client_id` and `client_secret`, in JSON or TOML, or is Google's client_secret_….json")
    };
    let text = read(path).map_err(unusable)?;
    let file = parse(&text).map_err(unusable)?;
    if file.client_id.ends_with(GOOGLE_IDS) && provider != "google" {
        let hint = format!("lessor login google --client {}", word_of_shell(&place));
        return Err(bad("it is a client of Google's".to_owned()).hint(hint));
    }
    // all of Google's clients have one: such a file would be stored for nothing
    if provider == "google" && file.secret.is_none() {
        return Err(unusable("`client_secret` is missing".to_owned()));
    }
    let name = free_name(&file, provider, given);
    let secret = file.secret.as_ref().map(|secret| SecretText(secret.as_str().to_owned().into()));
    let client_id = Some(file.client_id.clone());
    let call = SetSecretParams { name, provider: Some(provider.to_owned()), client_id, secret };
    let stored = daemon.set_secret(call)?;
    let output = &context.output;
    let others = if is_open_to_others(path) { " (other users can read it)" } else { "" };
    output.note(&format!("stored the OAuth client {}; {place} is not needed any more{others}", clean(&stored.name)));
    if file.is_web {
        output.note(
            "note: this client is for web applications: Google accepts it only if its redirect URIs include \
             http://127.0.0.1:PORT/oauth2callback, with PORT as `redirect_port` of [providers.google.oauth]; a client \
             for desktop apps needs neither",
        );
    }
    Ok(file.client_id)
}

/// A path as it is typed in a command.
pub(super) fn word_of_shell(path: &str) -> String {
    let is_plain = path.chars().all(|letter| letter.is_alphanumeric() || "-_./\\:~".contains(letter));
    if is_plain { path.to_owned() } else { quoted(path) }
}

fn is_extension(extension: &std::ffi::OsStr) -> bool {
    extension == "json" || extension == "toml"
}

/// The name under which the same client is stored; else one that no other client has.
fn free_name(file: &ClientFile, provider: &str, given: &OauthConfig) -> String {
    let is_same = |id: &Option<String>| id.as_deref() == Some(file.client_id.as_str());
    if let Some(known) = given.stored.iter().find(|client| is_same(&client.client_id)) {
        return known.name.clone();
    }
    let is_letter = |letter: &char| letter.is_ascii_alphanumeric() || "-_.".contains(*letter);
    let name: String = file.name.iter().flat_map(|name| name.chars()).filter(is_letter).take(60).collect();
    let name = if name.trim_matches(['-', '.']).is_empty() { provider } else { name.trim_start_matches('-') };
    let is_free = |name: &str| {
        let configured = given.clients.iter().find(|client| client.name == name);
        configured.is_none_or(|client| client.client_id == file.client_id)
            && given.stored.iter().all(|client| client.name != name)
    };
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| is_free(name)).unwrap_or_default()
}

fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize + 1));
    let opened = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    opened.map_err(|error| format!("it cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err("it is too large to be the file of an OAuth client".to_owned());
    }
    str::from_utf8(&bytes).map(|text| Zeroizing::new(text.to_owned())).map_err(|_| "it is not text".to_owned())
}

/// Parses a client; the error does not quote any value.
fn parse(text: &str) -> Result<ClientFile, String> {
    let text = text.trim_start_matches('\u{feff}').trim();
    let mut fields = if text.starts_with('{') { of_json(text)? } else { of_toml(text)? };
    let mut kind = None;
    for name in ["installed", "web"] {
        if let Some(Value::Object(inner)) = fields.remove(name) {
            (fields, kind) = (inner, Some(name));
            // the rest of Google's file says where its servers are
            let name = fields.remove("project_id");
            fields.retain(|field, _| FIELDS.contains(&field.as_str()));
            fields.extend(name.map(|name| ("name".to_owned(), name)));
            break;
        }
    }
    if fields.get("type").and_then(Value::as_str) == Some("service_account") {
        return Err("it is the key of a service account, not an OAuth client".to_owned());
    }
    if let Some(unknown) = fields.keys().find(|field| !FIELDS.contains(&field.as_str())) {
        let unknown: String = unknown.chars().filter(|letter| !letter.is_control()).take(30).collect();
        return Err(format!("unknown field `{unknown}`"));
    }
    let client_id = word(&mut fields, "client_id")?.ok_or("`client_id` is missing")?;
    let secret = word(&mut fields, "client_secret")?;
    if client_id.ends_with(GOOGLE_IDS) && secret.is_none() {
        return Err("`client_secret` is missing".to_owned());
    }
    let name = fields.remove("name").and_then(|name| name.as_str().map(str::to_owned));
    let client_id = client_id.as_str().to_owned();
    Ok(ClientFile { name, client_id, secret, is_web: kind == Some("web") })
}

fn of_json(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("it is not valid JSON (line {})", error.line()))
}

fn of_toml(text: &str) -> Result<Map<String, Value>, String> {
    let table = text.parse::<toml_edit::DocumentMut>().map_err(|_| "it is neither JSON nor TOML".to_owned())?;
    let value = |item: &toml_edit::Item| item.as_str().map_or(Value::Null, Value::from);
    Ok(table.iter().map(|(name, item)| (name.to_owned(), value(item))).collect())
}

fn word(fields: &mut Map<String, Value>, name: &str) -> Result<Option<Zeroizing<String>>, String> {
    match fields.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => {
            let text = Zeroizing::new(text);
            let is_word = !text.is_empty() && !text.chars().any(|letter| letter.is_control() || letter.is_whitespace());
            if is_word { Ok(Some(text)) } else { Err(format!("`{name}` is empty or contains blanks")) }
        }
        Some(_) => Err(format!("`{name}` must be a string")),
    }
}

#[cfg(unix)]
fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

/// Files in a profile are as private as the profile.
#[cfg(not(unix))]
fn is_open_to_others(_path: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::oauth::{OauthClient, StoredClient};
    use crate::pool::Wall;

    const GOOGLE: &str = r#"{"installed":{"client_id":"1-a.apps.googleusercontent.com","project_id":"my-project",
        "auth_uri":"https://accounts.google.com/o/oauth2/auth","client_secret":"sk-canary","redirect_uris":["http://localhost"]}}"#;

    #[test]
    fn each_format_is_read() {
        let read = |text: &str| {
            let file = parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            (file.name.unwrap_or_default(), file.client_id, file.secret.map(|secret| secret.to_string()), file.is_web)
        };
        let of_google = |web| {
            ("my-project".to_owned(), "1-a.apps.googleusercontent.com".to_owned(), Some("sk-canary".to_owned()), web)
        };
        assert_eq!(read(GOOGLE), of_google(false));
        assert_eq!(read(&GOOGLE.replace("installed", "web")), of_google(true));
        let plain = (String::new(), "c".to_owned(), Some("s".to_owned()), false);
        assert_eq!(read(r#"{"client_id":"c","client_secret":"s"}"#), plain);
        assert_eq!(read("\u{feff}client_id = \"c\"\r\nclient_secret = 's' # mine\n"), plain);
        assert_eq!(read("name = 'work'\nclient_id = 'c'"), ("work".to_owned(), "c".to_owned(), None, false));
    }

    #[test]
    fn errors_name_the_field_and_never_quote_a_value() {
        for (text, part) in [
            ("{\"client_id\": \"c\",\n \"client_secret\": sk-canary}", "not valid JSON (line 2)"),
            ("client_secret = sk-canary", "neither JSON nor TOML"),
            ("", "`client_id` is missing"),
            (r#"{"client_secret":"sk-canary"}"#, "`client_id` is missing"),
            (r#"{"client_id":"c","client_secret":["sk-canary"]}"#, "`client_secret` must be a string"),
            (r#"{"client_id":"c","client_secret":"sk canary"}"#, "`client_secret` is empty or contains blanks"),
            (r#"{"client_id":"1-a.apps.googleusercontent.com"}"#, "`client_secret` is missing"),
            (r#"{"client_id":"c","clientsecret":"sk-canary"}"#, "unknown field `clientsecret`"),
            (r#"{"type":"service_account","private_key":"sk-canary"}"#, "a service account"),
            ("client_id = 7", "`client_id` must be a string"),
        ] {
            let Err(why) = parse(text) else { panic!("{text} is accepted") };
            assert!(why.contains(part) && !why.contains("canary"), "{text}: {why}");
        }
    }

    #[test]
    fn a_client_gets_the_name_it_has_or_one_that_is_free() {
        let file = |name: &str, id: &str| ClientFile {
            name: Some(name.to_owned()),
            client_id: id.to_owned(),
            secret: None,
            is_web: false,
        };
        let stored = |name: &str, id: &str| StoredClient {
            name: name.to_owned(),
            provider: None,
            client_id: Some(id.to_owned()),
            secret: None,
            added_at: Wall(0),
        };
        let given = OauthConfig {
            stored: vec![stored("mine", "a"), stored("p", "b")],
            clients: vec![OauthClient { name: "q".into(), client_id: "c".into(), client_secret_env: None }],
            ..OauthConfig::default()
        };
        for (name, id, expected) in [
            ("x", "a", "mine"),
            ("p", "z", "p-2"),
            ("q", "z", "q-2"),
            ("q", "c", "q"),
            ("my project!", "z", "myproject"),
            ("--", "z", "google"),
        ] {
            assert_eq!(free_name(&file(name, id), "google", &given), expected, "{name} {id}");
        }
    }
}
