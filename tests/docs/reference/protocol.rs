//! All methods, types, events and errors of the protocol, from its types and the golden samples.

use std::collections::BTreeSet;

use lessor::daemon::KINDS;
use lessor::protocol::{Call, ErrorKind, EventInfo, MethodInfo};
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::Value;

use super::fields::Types;
use super::{cell, check, code, table};
use crate::pages::root;

const BEGINNING: &str = "\
All methods of the socket, with a sample of each. [The protocol](../protocol.md) says how to connect, with an example.

Times (`…_at`, `until`) are milliseconds since 1970, durations (`…_ms`) milliseconds. A parameter that is not required may be \
left out. Unknown parameters are errors. Unknown fields of an answer are to be ignored: later versions add some.

";

/// The groups of methods: what stands before the dot, and the heading.
const GROUPS: [(&str, &str); 13] = [
    ("", "The daemon as a whole"),
    ("lease", "Leases"),
    ("account", "Accounts"),
    ("events", "Events"),
    ("history", "History"),
    ("gateway", "The gateway"),
    ("session", "Sessions of agents"),
    ("page", "The page in the browser"),
    ("config", "Configuration"),
    ("secrets", "Secrets"),
    ("pool", "The pool of several machines"),
    ("guest", "Guests"),
    ("daemon", "Stop and restart"),
];

/// What each event says.
const EVENTS: [(&str, &str); 16] = [
    ("lease.granted", "A lease was granted. Not sent by default for a lease that the gateway takes for one request."),
    ("lease.moved", "A lease was moved from the account `from` to another one."),
    ("lease.ended", "A lease has ended: `reason` says why. Not sent by default for a lease of one request."),
    (
        "lease.revoked",
        "A lease was taken from its holder: `reason`. With a shared pool and `until`, the seat of the lease is about to end.",
    ),
    (
        "account.limited",
        "An account has met a limit: `key` and `scope` say what is limited, `until` for how long, `evidence` why.",
    ),
    ("account.ready", "A limit of an account has ended."),
    ("account.changed", "An account was added, changed, enabled, disabled or removed, or needs its user: `state`."),
    ("account.reset", "A banked limit reset of an account was used."),
    ("config.reloaded", "A new configuration is in force."),
    ("config.rejected", "The configuration file is not valid: `reason`. The last valid one stays in force."),
    ("usage.updated", "The quota windows of an account were read: `usage`."),
    ("queue.changed", "The number of waiting requests has changed: `queue`."),
    ("key.created", "A lasting key of the gateway was created: `key` is its id."),
    ("key.revoked", "A lasting key of the gateway was revoked."),
    ("request.ended", "A request of the gateway has ended: `request`. Only for subscriptions that name it."),
    (
        "request.waiting",
        "A request of the gateway waits: `until` says when the first account is free, or else when the request is sent again. Each wait of half a second or more is one event. Only for subscriptions that name it.",
    ),
];

/// Objects that an answer consists of, and the golden sample of the answer.
const SAMPLES: &[(&str, &str)] = &[
    ("HelloInfo", "hello"),
    ("LeaseInfo", "lease"),
    ("CredentialInfo", "credential"),
    ("DecisionInfo", "decision"),
    ("LeaseRow", "leases"),
    ("AccountInfo", "account"),
    ("DaemonStatus", "status"),
    ("ReloadInfo", "reloaded"),
    ("ImportInfo", "imported"),
    ("ExportInfo", "exported"),
    ("ForecastInfo", "forecast"),
    ("ExplainInfo", "explained"),
    ("GatewayAccess", "gateway-access"),
    ("RekeyInfo", "rekeyed"),
    ("RestartInfo", "restarting"),
    ("CheckInfo", "checked"),
    ("GatewayKeyInfo", "gateway-keys"),
    ("RevokedKeyInfo", "revoked-key"),
    ("HistoryInfo", "history"),
    ("MovedInfo", "moved"),
    ("PageAccess", "page-access"),
    ("StoredClientInfo", "stored-client"),
    ("UsedResetInfo", "used-reset"),
    ("AgentSessionInfo", "agent-session"),
    ("PoolMemberInfo", "pool-member"),
    ("JoinTokenInfo", "join-token"),
    ("PoolHostInfo", "pool-hosts"),
    ("PoolStatusInfo", "pool-status"),
    ("EvictedHostInfo", "evicted-host"),
    ("PoolRekeyInfo", "rekeyed-pool"),
    ("LeftPoolInfo", "left-pool"),
    ("PoolRulesInfo", "pool-rules"),
    ("MigratedInfo", "migrated"),
];

/// The types of parameters, those of answers, and the methods with the schemas of both.
struct Protocol {
    params: Types,
    results: Types,
    methods: Vec<(&'static MethodInfo, Value, Value)>,
}

impl Protocol {
    fn read() -> Self {
        let mut params = SchemaGenerator::new(SchemaSettings::draft2020_12());
        let mut results = SchemaGenerator::new(SchemaSettings::draft2020_12().for_serialize());
        let schemas = |method: &'static MethodInfo| {
            (method, (method.params)(&mut params).to_value(), (method.result)(&mut results).to_value())
        };
        let methods = Call::CATALOG.iter().map(schemas).collect();
        results.subschema_for::<EventInfo>();
        Self { params: Types::new(params.definitions()), results: Types::new(results.definitions()), methods }
    }
}

#[test]
fn the_reference_of_the_protocol_is_its_types_and_samples() {
    let protocol = Protocol::read();
    let mut text = BEGINNING.to_owned();
    let names: Vec<&str> = GROUPS.iter().map(|(prefix, _)| *prefix).collect();
    assert!(Call::METHODS.iter().all(|method| names.contains(&prefix(method))), "each method is in a group");
    for (group, title) in GROUPS {
        text += &format!("## {title}\n\n");
        for method in protocol.methods.iter().filter(|(method, ..)| prefix(method.name) == group) {
            describe(&protocol, method, &mut text);
        }
    }
    text += &events(&protocol);
    text += &errors();
    text += &types(&protocol);
    check("protocol.md", "Methods of the protocol", &text);
}

fn prefix(method: &str) -> &str {
    method.split_once('.').map_or("", |(prefix, _)| prefix)
}

fn describe(protocol: &Protocol, (method, params, result): &(&MethodInfo, Value, Value), text: &mut String) {
    *text += &format!("### {}\n\n", method.name);
    for paragraph in method.doc.trim().split("\n\n") {
        *text += &format!("{}\n\n", cell(paragraph));
    }
    if let Some(name) = protocol.params.object_of(params) {
        *text += &format!("{}\n", protocol.params.parameters(name));
        for below in all_below(&protocol.params, name) {
            let table = protocol.params.parameters(&below);
            *text += &format!("#### {below}\n\n{}\n\n{table}\n", protocol.params.meaning(&below));
        }
    }
    let result = match protocol.results.object_of(result) {
        Some(_) => protocol.results.read(result),
        None if method.name == "config.get" => "a JSON document, as `lessor config show --json` prints it".to_owned(),
        None => "`{}`".to_owned(),
    };
    *text += &format!("Result: {result}. Sample:\n\n```json\n{}\n```\n\n", sample(&format!("call-{}", method.name)));
}

/// The objects that one consists of, without itself.
fn all_below(types: &Types, name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![name.to_owned()];
    while let Some(next) = open.pop() {
        open.extend(types.objects_below(&next).into_iter().filter(|below| found.insert(below.clone())));
    }
    found
}

fn sample(name: &str) -> String {
    let path = root().join("tests/golden").join(format!("{name}.json"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

fn events(protocol: &Protocol) -> String {
    let names: Vec<&str> = EVENTS.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(names, KINDS, "each kind of event has a line");
    let rows: Vec<_> = EVENTS.iter().map(|(kind, meaning)| [code(kind), cell(meaning)]).collect();
    format!(
        "## Kinds of events\n\nAn event is a notification of the method `event`, after `events.subscribe`.\n\n{}\n{}\n\
         ```json\n{}\n```\n\n",
        table(["kind", "meaning"], &rows),
        protocol.results.table("EventInfo"),
        sample("event")
    )
}

fn errors() -> String {
    let of_protocol = ErrorKind::CATALOG.iter().take_while(|(kind, _)| *kind != "usage");
    let rows: Vec<_> = of_protocol.map(|(kind, meaning)| [code(kind), cell(meaning)]).collect();
    let others: Vec<_> =
        ErrorKind::CATALOG.iter().skip(rows.len()).map(|(kind, meaning)| [code(kind), cell(meaning)]).collect();
    format!(
        "## Errors\n\nThe code is one of JSON-RPC's for a call that is malformed, and -32000 for all others: `data.kind` says \
         which.\n\n{}\n```json\n{}\n```\n\nCommands print the same with `--json`, and these kinds of their own:\n\n{}\n",
        table(["kind", "meaning"], &rows),
        sample("refusal"),
        table(["kind", "meaning"], &others)
    )
}

fn types(protocol: &Protocol) -> String {
    let results = &protocol.results;
    let mut names: BTreeSet<String> = BTreeSet::new();
    for (_, _, result) in &protocol.methods {
        if let Some(name) = results.object_of(result) {
            names.extend(all_below(results, name));
            names.insert(name.to_owned());
        }
    }
    names.extend(all_below(results, "EventInfo"));
    let mut text = "## Types\n\nThe objects of answers and events.\n\n".to_owned();
    for name in names {
        text += &format!("### {name}\n\n{}\n\n{}\n", results.meaning(&name), results.table(&name));
        let sampled = SAMPLES.iter().find(|(of, _)| *of == name);
        let is_result = protocol.methods.iter().any(|(_, _, result)| results.object_of(result) == Some(name.as_str()));
        assert_eq!(sampled.is_some(), is_result, "{name}: each result has a sample");
        if let Some((_, file)) = sampled {
            let sample = sample(&format!("answer-{file}"));
            assert_has_its_fields(results, &name, &sample);
            text += &format!("```json\n{sample}\n```\n\n");
        }
    }
    text
}

/// A sample has all fields of its type, and no others.
fn assert_has_its_fields(types: &Types, name: &str, sample: &str) {
    let message: Value = serde_json::from_str(sample).unwrap();
    let result = &message["result"];
    let object = result.as_array().map_or(result, |list| &list[0]).as_object().unwrap();
    let (all, required) = types.names(name);
    let unknown: Vec<_> = object.keys().filter(|field| !all.contains(*field)).collect();
    let missing: Vec<_> = required.iter().filter(|field| !object.contains_key(*field)).collect();
    assert!(unknown.is_empty() && missing.is_empty(), "{name}: unknown {unknown:?}, missing {missing:?}");
}
