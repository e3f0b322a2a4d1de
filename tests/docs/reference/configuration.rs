//! All keys of the configuration, from the table that reads the file.

use lessor::config::{KEYS, KeySpec, ValueKind, duration, size};

use super::{cell, check, code, table};

const BEGINNING: &str = "\
All keys of `config.toml`. [Configuration](../configuration.md) says where the file is, how it is edited and checked, and \
whose files are read. \
Durations are written `500ms`, `30s`, `10m`, `1h30m` or `2d`; sizes `64KiB`, `10MB`, `32MiB` or `1GiB`.

No key needs a restart: each takes effect when the file is saved. A key of a section with a `*` has no default, unless its \
meaning says what applies without it; `*` stands for a name that you choose.

";

/// Sections with a page or a sentence of their own; in the order of the keys.
const NOTES: &[(&str, &str)] = &[
    ("leases", "Also [overflow and requests under way](../selection-and-limits.md#requests-under-way)."),
    ("selection", "[Selection and limits](../selection-and-limits.md) explains the choice of an account."),
    ("selection.health", "The health score that the strategy `hybrid` uses."),
    ("selection.tokens", "The token bucket that the strategy `hybrid` uses."),
    ("gateway", "[The gateway](../gateway.md)."),
    ("join", "[Guests](../guests.md); `lessor join` and `leave` write it."),
    ("telemetry", "[Metrics and traces](../metrics.md#opentelemetry)."),
    ("notify", "[Notifications](../service.md#notifications)."),
    ("history", "What is kept of requests, leases and events: [History](../history.md)."),
    ("prices.*", "`*` is the name of a model, quoted: `[prices.\"claude-opus*\"]`."),
    ("secrets", "[Encryption at rest](../credentials.md#encryption-at-rest)."),
    ("pool", "The pool that several machines share: [One pool for many machines](../many-machines.md)."),
    ("providers.*", "`anthropic`, `openai`, `google`, or a provider of yours."),
    ("providers.*.oauth", "[Credentials](../credentials.md)."),
    ("providers.*.oauth.clients.*", "[OAuth clients](../credentials.md#oauth-clients)."),
    ("providers.*.direct", "[`lessor login openai --chatgpt`](../credentials.md#sign-in-with-chatgpt)."),
    ("accounts.*", "`*` is a label, an email address or an id. These settings override `lessor account set`."),
    (
        "directories.*",
        "`*` is a directory: absolute, beginning with `~/`, or relative to the directory of the configuration file. The \
         section counts for everything below it; of several, the innermost. Links are followed when the configuration is \
         read; directories of which a name has changed since are found again by `lessor reload`. \
         [Sets of accounts](../selection-and-limits.md#sets-of-accounts).",
    ),
    ("share.*", "[Guests](../guests.md); `lessor share` writes it."),
    ("agents.*", "`*` is an agent's name, as `use` has it. [Is it that agent?](../agents.md#is-it-that-agent)"),
];

#[test]
fn the_reference_of_the_configuration_is_the_table_of_its_keys() {
    let mut text = BEGINNING.to_owned();
    let mut sections: Vec<&str> = Vec::new();
    for key in KEYS {
        let section = section(key);
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    for name in &sections {
        text += &format!("## `[{name}]`\n\n");
        if let Some((_, note)) = NOTES.iter().find(|(section, _)| section == name) {
            text += &format!("{note}\n\n");
        }
        let rows: Vec<_> = KEYS.iter().filter(|key| section(key) == *name).map(row).collect();
        text += &table(["key", "value", "default", "meaning"], &rows);
        text.push('\n');
    }
    let unknown: Vec<_> = NOTES.iter().filter(|(section, _)| !sections.contains(section)).collect();
    assert!(unknown.is_empty(), "notes on sections that do not exist: {unknown:?}");
    check("configuration.md", "Configuration keys", &text);
}

fn section(key: &KeySpec) -> &'static str {
    key.key.rsplit_once('.').map_or("", |(section, _)| section)
}

/// What is allowed, without the examples of durations and sizes: they are above.
fn values(kind: &ValueKind) -> String {
    match *kind {
        ValueKind::Duration(from, to, off) => {
            let off = off.map(|word| format!(", or {}", code(word))).unwrap_or_default();
            format!("a duration, {} to {}{off}", duration::format(from), duration::format(to))
        }
        ValueKind::Size(from, to) => format!("a size, {} to {}", size::format(from), size::format(to)),
        ValueKind::OneOf(words) => words.iter().map(|word| code(word)).collect::<Vec<_>>().join(", "),
        ref other => cell(&other.allowed()),
    }
}

fn row(key: &KeySpec) -> [String; 4] {
    let name = key.key.rsplit('.').next().unwrap_or_default();
    let default = key.default.map(|default| if default.is_empty() { "\"\"" } else { default });
    [code(name), values(&key.kind), default.map(code).unwrap_or_default(), cell(key.doc)]
}
