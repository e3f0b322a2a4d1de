//! The output of each command matches its schema: every key is described, and every required key is present.

use serde_json::{Value, json};

use super::machine::{FAR, Machine, claude};

/// Why a value does not match a schema, if it does not.
fn differs(root: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.strip_prefix("#").unwrap();
        return differs(root, root.pointer(name).unwrap(), value, place);
    }
    for choice in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[choice].as_array() {
            let found = choices.iter().any(|schema| differs(root, schema, value, place).is_ok());
            return if found { Ok(()) } else { Err(format!("{place}: {value} is none of {choices:?}")) };
        }
    }
    if let Some(constant) = schema.get("const") {
        return if constant == value { Ok(()) } else { Err(format!("{place}: {value} is not {constant}")) };
    }
    if let Some(all) = schema["enum"].as_array() {
        return if all.contains(value) { Ok(()) } else { Err(format!("{place}: {value} is none of {all:?}")) };
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_allowed = |allowed: &Value| allowed == kind || (allowed == "number" && kind == "integer");
    let fits = match &schema["type"] {
        Value::Null => true,
        Value::Array(kinds) => kinds.iter().any(is_allowed),
        one => is_allowed(one),
    };
    if !fits {
        return Err(format!("{place}: {value} is no {}", schema["type"]));
    }
    match value {
        Value::Array(list) => list
            .iter()
            .enumerate()
            .try_for_each(|(number, value)| differs(root, &schema["items"], value, &format!("{place}[{number}]"))),
        Value::Object(fields) => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            for name in required {
                fields.get(name).ok_or_else(|| format!("{place}.{name} is missing"))?;
            }
            fields.iter().try_for_each(|(name, value)| match schema["properties"].get(name) {
                Some(schema) => differs(root, schema, value, &format!("{place}.{name}")),
                None => Err(format!("{place}.{name} is not in the schema")),
            })
        }
        _ => Ok(()),
    }
}

#[test]
fn documents_match_their_schemas() {
    let machine = Machine::new();
    machine.write(".claude/.credentials.json", &claude("r1", FAR));
    machine.write_text(".gemini/oauth_creds.json", "{");
    let settings = json!({ "account_selection_strategy": "sticky", "request_jitter_max_ms": 5 });
    machine.write(".config/opencode/antigravity.json", &settings);
    machine.write(".config/opencode/antigravity-accounts.json", &super::antigravity());
    let check = |command: &[&str], options: &[&str]| {
        let schema = machine.json(&[&["schema"], command].concat());
        let printed = machine.json(&[command, options].concat());
        let outcome = differs(&schema, &schema, &printed, &command.join(" "));
        assert_eq!(outcome, Ok(()), "{printed:#}");
    };
    check(&["import"], &["--dry-run"]);
    check(&["import"], &["--accept-config"]);
    check(&["export"], &[]);
    check(&["export"], &["--secrets", "--yes"]);
    check(&["account", "show"], &["one@example.org"]);
    check(&["doctor"], &[]);
}
