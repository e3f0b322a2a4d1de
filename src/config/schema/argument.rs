//! Values as they are typed on a command line.

use super::value::{ConfigValue, quoted};
use super::value_kind::ValueKind;

impl ValueKind {
    /// Reads a value as it is typed after `config set KEY`: as TOML, or without the quotes and brackets of TOML.
    /// Also returns the TOML literal, as typed where possible.
    pub fn read_argument(&self, typed: &str) -> Result<(ConfigValue, String), String> {
        let typed = typed.trim();
        if self.is_text() {
            let text = string(typed).unwrap_or_else(|| typed.to_owned());
            return Ok((self.read_plain(&text)?, quoted(&text)));
        }
        let literal = match self {
            Self::Texts(..) | Self::Durations(..) => list(typed),
            Self::Command if self.is_text_as(typed) => {
                let text = string(typed).unwrap_or_else(|| typed.to_owned());
                return Ok((self.read_plain(&text)?, quoted(&text)));
            }
            _ => typed.to_owned(),
        };
        let value = self.read_plain(&literal)?;
        // It parsed above.
        let mut parsed = literal.parse::<toml_edit::Value>().map_err(|error| error.to_string())?;
        parsed.decor_mut().clear();
        let literal = parsed.to_string();
        let literal = if literal.contains(char::is_control) { value.to_string() } else { literal };
        Ok((value, literal))
    }
}

/// The text in a TOML string.
fn string(typed: &str) -> Option<String> {
    let is_quoted = typed.starts_with(['"', '\'']);
    let parsed = is_quoted.then(|| typed.parse::<toml_edit::Value>().ok())??;
    parsed.as_str().map(str::to_owned)
}

/// A list as TOML: shells remove the quotes in `["a", "b"]`, and `a,b` is accepted too.
fn list(typed: &str) -> String {
    if typed.parse::<toml_edit::Value>().is_ok_and(|value| value.is_array()) {
        return typed.to_owned();
    }
    let inner = typed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(typed);
    let entries = inner.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let entries: Vec<_> = entries.map(|entry| quoted(&string(entry).unwrap_or_else(|| entry.to_owned()))).collect();
    format!("[{}]", entries.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::keys::{KEYS, KeySpec};

    fn row(key: &str) -> &'static KeySpec {
        KEYS.iter().find(|row| row.key == key).unwrap()
    }

    #[test]
    fn plain_and_toml_values_are_accepted_and_kept_as_typed() {
        for (key, typed, literal) in [
            ("leases.ttl", "90s", "\"90s\""),
            ("leases.ttl", "\"90s\"", "\"90s\""),
            ("leases.ttl", "'90s'", "\"90s\""),
            ("leases.per_account", " 2 ", "2"),
            ("quota.soft_threshold", "0.90", "0.90"),
            ("quota.soft_threshold", "1", "1"),
            ("selection.health.failure", "-20", "-20"),
            ("selection.tier_first", "true", "true"),
            ("selection.preferred_account", "", "\"\""),
            ("selection.preferred_account", "a \\ b", "\"a \\\\ b\""),
            ("accounts.*.use", "claude", "[\"claude\"]"),
            ("accounts.*.use", "claude, codex,", "[\"claude\", \"codex\"]"),
            ("accounts.*.use", "[claude,codex]", "[\"claude\", \"codex\"]"),
            ("accounts.*.use", "[\"claude\"]", "[\"claude\"]"),
            ("accounts.*.use", "['claude']", "['claude']"),
            ("accounts.*.use", "\"claude\"", "[\"claude\"]"),
            ("accounts.*.use", "[\n\"claude\",\n]", "[\"claude\"]"),
            ("providers.*.oauth.scopes", "", "[]"),
            ("limits.quota_backoff", "1m,2h", "[\"1m\", \"2h\"]"),
            ("notify.command", "", "\"\""),
            ("notify.command", "notify-send \"a b\"", "\"notify-send \\\"a b\\\"\""),
            ("notify.command", "\"notify-send hi\"", "\"notify-send hi\""),
            ("notify.command", "[\"notify-send\", \"a b\"]", "[\"notify-send\", \"a b\"]"),
            ("notify.webhook", "https://example.org/hook?a=b", "\"https://example.org/hook?a=b\""),
            ("notify.webhook", "http://[::1]:8080/", "\"http://[::1]:8080/\""),
            ("quota.protect", "[{models=['a'], below=0.1}]", "[{models=['a'], below=0.1}]"),
        ] {
            let (value, written) =
                row(key).kind.read_argument(typed).unwrap_or_else(|why| panic!("{key} {typed}: {why}"));
            assert_eq!(written, literal, "{key} {typed}");
            let read = row(key).kind.read(&toml_edit::Item::Value(written.parse().unwrap())).unwrap();
            assert_eq!(read, value, "{key} {typed}");
        }
    }

    #[test]
    fn errors_name_the_allowed_values() {
        for (key, typed, part) in [
            ("leases.ttl", "30", "write 30s or 30m"),
            ("leases.per_account", "two", "a whole number from 1 to 10000"),
            ("leases.per_account", "2 # two", "a whole number"),
            ("leases.per_account", "2\n[x]", "a whole number"),
            ("leases.overflow", "maybe", "\"share\", \"wait\", \"fail\""),
            ("selection.tier_first", "yes", "true or false"),
            ("accounts.*.use", "", "a list of 1 to 64 texts"),
            ("notify.command", "say 'it", "a quote is not closed"),
            ("notify.command", "[1]", "a program and its arguments"),
            ("notify.webhook", "http://example.org", "an https URL"),
            ("notify.webhook", "http://127.0.0.1.example.org", "an https URL"),
            ("notify.webhook", "https://a:hush@example.org", "user name or password"),
            ("providers.*.oauth.client_secret_env", "sk-hush", "the name of an environment variable"),
        ] {
            let why = row(key).kind.read_argument(typed).unwrap_err();
            assert!(why.contains(part) && !why.contains("hush"), "{key} {typed}: {why}");
        }
    }
}
