//! Texts before and after an edit.

use proptest::prelude::*;

use super::*;
use crate::{config::schema::keys::KEYS, config::tests::sample};

fn path() -> &'static Path {
    Path::new("config.toml")
}

fn set(text: &str, key: &str, typed: &str) -> Result<String, EditError> {
    super::set(text, path(), &NamedKey::find(key).unwrap(), typed).map(|(text, _)| text)
}

fn unset(text: &str, key: &str) -> Result<String, EditError> {
    super::unset(text, path(), &NamedKey::find(key).unwrap())
}

/// The cells of a table, one row a line, with the escapes of Rust.
fn rows<const N: usize>(table: &str) -> impl Iterator<Item = [String; N]> {
    let escapes = [("\\n", "\n"), ("\\r", "\r"), ("\\u{feff}", "\u{feff}")];
    let cell = move |cell: &str| escapes.iter().fold(cell.trim().to_owned(), |cell, (from, to)| cell.replace(from, to));
    table.trim().lines().map(move |row| row.split('|').map(cell).collect::<Vec<_>>().try_into().unwrap())
}

#[test]
fn setting_an_existing_key_changes_its_value_only() {
    for [key, typed, before, after] in rows(
        r#"
        leases.ttl | 2m | [leases]\nttl = "1m" # short\n | [leases]\nttl = "2m" # short\n
        leases.ttl | 2m | leases.ttl="1m" | leases.ttl="2m"
        leases.ttl | 2m | leases = {ttl='1m',grace='1s'} | leases = {ttl="2m",grace='1s'}
        leases.ttl | 2m | [leases]\r\nttl = "1m"\r\n | [leases]\r\nttl = "2m"\r\n
        leases.ttl | 2m | \u{feff}[leases]\nttl = "1m"\n | \u{feff}[leases]\nttl = "2m"\n
        accounts."a@b.c".max_leases | 2 | accounts."a@b.c".max_leases = 1\n | accounts."a@b.c".max_leases = 2\n
        limits.quota_backoff | 5m,2h | [limits]\nquota_backoff = [ # steps\n  "1m",\n]\n# end\n | [limits]\nquota_backoff = ["5m", "2h"]\n# end\n
        quota.protect | [] | [[quota.protect]]\nmodels = ["a"]\nbelow = 0.5\n\n[[quota.protect]]\nmodels = ["b"]\nbelow = 1\n[leases]\n | \n[leases]\n\n[quota]\nprotect = []\n
        "#,
    ) {
        assert_eq!(set(&before, &key, &typed).unwrap(), after, "{before}");
    }
}

#[test]
fn a_new_key_is_inserted_in_its_section() {
    for [key, typed, before, after] in rows(
        r#"
        leases.ttl | 2m |  | [leases]\nttl = "2m"\n
        leases.ttl | 2m | \u{feff} | \u{feff}[leases]\nttl = "2m"\n
        leases.ttl | 2m | # mine | # mine\n\n[leases]\nttl = "2m"\n
        leases.ttl | 2m | # mine\r\n | # mine\r\n\r\n[leases]\r\nttl = "2m"\r\n
        leases.ttl | 2m | [daemon]\n\n | [daemon]\n\n[leases]\nttl = "2m"\n
        leases.ttl | 2m | [leases] # l\n\n[quota]\n | [leases] # l\nttl = "2m"\n\n[quota]\n
        leases.ttl | 2m | [leases]\n  grace = "1s" # g\n# ours\n\n[quota]\n | [leases]\n  grace = "1s" # g\n  ttl = "2m"\n# ours\n\n[quota]\n
        leases.ttl | 2m | [leases]\n# per_account = 1\n# ttl = "10m"\n# grace = "2s"\n[quota]\n | [leases]\n# per_account = 1\n# ttl = "10m"\nttl = "2m"\n# grace = "2s"\n[quota]\n
        leases.ttl | 2m | [leases]\n# [other]\n# ttl = 1\n | [leases]\nttl = "2m"\n# [other]\n# ttl = 1\n
        leases.ttl | 2m | leases.grace = "1s"\n[quota]\n | leases.grace = "1s"\nleases.ttl = "2m"\n[quota]\n
        leases.ttl | 2m | leases = {}\n | leases = { ttl = "2m" }\n
        leases.ttl | 2m | leases = { grace = "1s" } | leases = { grace = "1s", ttl = "2m" }
        selection.health.initial | 60 | selection = { health.max = 80, mode = "balance" } | selection = { health.max = 80, mode = "balance", health.initial = 60 }
        selection.health.initial | 60 | selection = { health = { max = 80 } } | selection = { health = { max = 80, initial = 60 } }
        selection.health.initial | 60 | [selection]\nhealth.max = 80\nmode = "balance"\n | [selection]\nhealth.max = 80\nhealth.initial = 60\nmode = "balance"\n
        selection.mode | balance | [selection.health]\nmax = 80\n | [selection.health]\nmax = 80\n\n[selection]\nmode = "balance"\n
        accounts.work.max_leases | 2 | [accounts."work"]\nuse = ["claude"]\n | [accounts."work"]\nuse = ["claude"]\nmax_leases = 2\n
        accounts."a@b.c".use | claude |  | [accounts."a@b.c"]\nuse = ["claude"]\n
        accounts.c.enabled | false | [accounts]\nb.enabled = true\n | [accounts]\nb.enabled = true\n\n[accounts.c]\nenabled = false\n
        "#,
    ) {
        assert_eq!(set(&before, &key, &typed).unwrap(), after, "{before}");
    }
}

#[test]
fn removing_a_key_removes_nothing_else() {
    for [key, before, after] in rows(
        r#"
        leases.ttl | [leases]\n# t\nttl = "1m" # short\ngrace = "1s"\n | [leases]\n# t\ngrace = "1s"\n
        leases.ttl | [leases]\nttl = "1m" |
        leases.ttl | # mine\n\n[leases]\nttl = "1m"\n | # mine\n
        leases.ttl | [daemon]\n\n[leases]\nttl = "1m"\n\n[quota]\n | [daemon]\n\n[quota]\n
        leases.ttl | [leases]\nttl = "1m"\n# c\n | [leases]\n# c\n
        leases.ttl | # about\n[leases]\nttl = "1m"\n | # about\n[leases]\n
        leases.ttl | [leases] # c\nttl = "1m"\n | [leases] # c\n
        leases.ttl | leases.ttl = "1m"\nleases.grace = "1s"\n | leases.grace = "1s"\n
        leases.ttl | leases = { ttl = "1m" } | leases = { }
        leases.ttl | leases = { ttl = "1m", grace = "1s" } | leases = { grace = "1s" }
        leases.ttl | leases = { grace = "1s", ttl = "1m" } | leases = { grace = "1s" }
        selection.health.max | selection = { health.max = 80, mode = "balance" } | selection = { mode = "balance" }
        selection.health.max | selection = { mode = "balance", health = { max = 80 } } | selection = { mode = "balance", health = { } }
        limits.quota_backoff | [limits]\nquota_backoff = [\n  "1m", # one\n] # end\nretry_delay = "2s"\n | [limits]\nretry_delay = "2s"\n
        quota.protect | [[quota.protect]]\nmodels = ["a"]\nbelow = 0.5\n# c\n | # c\n
        providers.mine.base_url | [providers.mine]\nbase_url = "https://x.example"\n |
        "#,
    ) {
        assert_eq!(unset(&before, &key).unwrap(), after, "{before}");
    }
}

#[test]
fn rejected_edits_say_why() {
    let refused = |text: &str, key: &str, typed: &str| set(text, key, typed).unwrap_err();
    assert!(matches!(refused("[lease]\n", "leases.ttl", "2m"), EditError::Invalid(_)));
    let value = refused("", "leases.ttl", "2");
    assert!(
        matches!(value, EditError::Refused(_))
            && value.to_string().starts_with("`leases.ttl` is \"2\": a number without a unit"),
        "{value}"
    );
    let together = refused("[leases]\nmax_per_account = 2\n", "leases.per_account", "3");
    assert!(
        matches!(together, EditError::Together(_)) && together.to_string().contains("must not be above"),
        "{together}"
    );
    for (key, part) in [
        ("leases.tll", "did you mean `ttl`?"),
        ("leases", "is a section; its keys: per_account"),
        ("accounts.a@b.c.use", "quoted"),
        ("accounts", "is a section"),
    ] {
        assert!(NamedKey::find(key).unwrap_err().contains(part), "{key}");
    }
    let gone = unset("providers.mine = { base_url = \"https://x.example\" }", "providers.mine.base_url").unwrap_err();
    assert!(gone.to_string().contains("needs a `base_url`"), "{gone}");
}

/// A key and a valid value for it, as they are typed: a text without its quotes, a list without its brackets.
fn typed(row: &KeySpec, name: &str) -> (String, String) {
    let key = row.key.split('.').map(|part| if part == "*" { name } else { part }).collect::<Vec<_>>();
    let literal = sample(row);
    let plain = if literal.contains('{') { literal } else { literal.replace(['"', '[', ']'], "") };
    (format_key(&key), plain)
}

/// All keys that may be set beside any other: a guest has no pool of its own.
fn keys() -> Vec<&'static KeySpec> {
    KEYS.iter().filter(|row| row.key != "join.host").collect()
}

/// A file in one of several styles, with some of the keys.
fn some_file() -> impl Strategy<Value = String> {
    let rows = proptest::sample::subsequence(keys(), 0..=9);
    (rows, "[ a-z#=\\[\\]\"]{0,12}", 0..3_usize, any::<bool>(), any::<bool>()).prop_map(
        |(rows, noise, style, crlf, mark)| {
            let mut text = format!("# {noise}\n");
            let mut current = String::new();
            for row in rows {
                let (key, value) = typed(row, "openai");
                let (_, literal) = row.kind.read_argument(&value).unwrap();
                let (section, name) = key.rsplit_once('.').unwrap();
                if section != current && style > 0 {
                    text += &format!("\n# about {noise}\n[{section}] # {noise}\n");
                    section.clone_into(&mut current);
                }
                text += &match style {
                    0 => format!("{key} = {literal}\n"),
                    1 => format!("{name} = {literal} # {noise}\n"),
                    _ => format!("  # {name} = {literal}\n\n\t{name}={literal}\n"),
                };
            }
            let text = if crlf { text.replace('\n', "\r\n") } else { text };
            if mark { format!("\u{feff}{text}") } else { text }
        },
    )
}

/// `PROPTEST_CASES` lengthens the run.
fn cases() -> ProptestConfig {
    let config = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { config.cases } else { 100 };
    ProptestConfig { cases, failure_persistence: None, ..config }
}

proptest! {
    #![proptest_config(cases())]

    /// The value is set, and every earlier line is kept in its order.
    #[test]
    fn a_set_value_is_effective_and_all_else_stays(
        text in some_file(),
        row in proptest::sample::select(keys()),
        name in "openai|[a-z][a-z0-9.-]{0,8}",
    ) {
        let (key, value) = typed(row, &name);
        let named = NamedKey::find(&key).unwrap();
        let before = Config::parse(&text, path()).unwrap();
        // Providers that are not built in need a base URL first.
        let text = if row.key.starts_with("providers.") && !before.providers.contains_key(&name) {
            set(&text, &format_key(&["providers", &name, "base_url"]), "https://y.example").unwrap()
        } else {
            text
        };
        let (changed, wanted) = super::set(&text, path(), &named, &value).unwrap();
        let config = Config::parse(&changed, path()).unwrap();
        prop_assert_eq!(config.get(&key).unwrap().value, Some(wanted));
        let others = |config: &Config| config.show().into_iter().filter(|s| s.key != key).map(|s| s.to_string()).collect::<Vec<_>>();
        prop_assert_eq!(others(&config), others(&Config::parse(&text, path()).unwrap()));
        let was_set = Config::parse(&text, path()).unwrap().get(&key).unwrap().source != SettingSource::Default;
        if !was_set {
            // Every old line is kept, in its order, byte for byte.
            let mut new = changed.split_inclusive('\n');
            for old in text.split_inclusive('\n') {
                prop_assert!(new.any(|line| line == old), "{old:?} is gone from\n{changed}");
            }
        }
        prop_assert_eq!(changed.starts_with('\u{feff}'), text.starts_with('\u{feff}'));
        prop_assert_eq!(changed.replace("\r\n", "").contains('\n'), text.replace("\r\n", "").contains('\n'));
        // Setting it again changes nothing.
        prop_assert_eq!(&super::set(&changed, path(), &named, &value).unwrap().0, &changed);
    }

    /// Setting and unsetting a new key restores the text.
    #[test]
    fn set_and_unset_restores_the_text(
        text in some_file(),
        row in proptest::sample::select(KEYS.iter().filter(|row| !row.key.starts_with("providers")).collect::<Vec<_>>()),
        name in "openai|[^\\p{Cc}]{1,9}",
    ) {
        let (key, value) = typed(row, &name);
        let named = NamedKey::find(&key).unwrap();
        let is_new = matches!(Config::parse(&text, path()).unwrap().get(&key).unwrap().source, SettingSource::Default);
        let (changed, _) = super::set(&text, path(), &named, &value).unwrap();
        let gone = super::unset(&changed, path(), &named).unwrap();
        prop_assert_eq!(Config::parse(&gone, path()).unwrap().get(&key).unwrap().source, SettingSource::Default);
        if is_new {
            prop_assert_eq!(gone, text);
        }
    }
}
