//! The table of keys as JSON Schema, for editors.

use serde_json::{Map, Value as Json, json};

use super::keys::{KEYS, KeySpec};
use super::value_kind::{PROXY_SCHEMES, ValueKind};

/// JSON Schema (draft 2020-12) of the configuration file.
pub fn json_schema() -> Json {
    let mut root = section();
    for key in KEYS {
        insert(&mut root, &key.key.split('.').collect::<Vec<_>>(), leaf(key));
    }
    root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    root.insert("title".to_owned(), json!("lessor configuration"));
    Json::Object(root)
}

fn section() -> Map<String, Json> {
    Map::from_iter([("type".to_owned(), json!("object")), ("additionalProperties".to_owned(), json!(false))])
}

fn insert(node: &mut Map<String, Json>, path: &[&str], leaf: Json) {
    let Some((first, rest)) = path.split_first() else { return };
    let slot = if *first == "*" {
        node.entry("additionalProperties").or_insert(Json::Null)
    } else {
        let properties = node.entry("properties").or_insert_with(|| json!({}));
        let Json::Object(properties) = properties else { return };
        properties.entry(*first).or_insert(Json::Null)
    };
    if rest.is_empty() {
        *slot = leaf;
        return;
    }
    // A named section starts as the `false` that rejects unknown names.
    if !slot.is_object() {
        *slot = Json::Object(section());
    }
    if let Json::Object(inner) = slot {
        insert(inner, rest, leaf);
    }
}

fn leaf(key: &KeySpec) -> Json {
    let mut leaf = shape(&key.kind);
    leaf["description"] = json!(key.doc);
    if let Some(Ok(value)) = key.default.map(|text| key.kind.read_plain(text)) {
        leaf["default"] = value.json();
    }
    leaf
}

fn shape(kind: &ValueKind) -> Json {
    const DURATION: &str = r"([0-9]+(d|h|m|s|ms|us|ns))+|[0-9]+\.[0-9]+(d|h|m|s|ms|us|ns)|0";
    match *kind {
        ValueKind::Bool => json!({ "type": "boolean" }),
        ValueKind::Integer(from, to) => json!({ "type": "integer", "minimum": from, "maximum": to }),
        ValueKind::Number(from, to) => json!({ "type": "number", "minimum": from, "maximum": to }),
        ValueKind::Duration(_, _, Some(word)) => {
            json!({ "type": "string", "pattern": format!("^({DURATION}|{word})$") })
        }
        ValueKind::Duration(..) => json!({ "type": "string", "pattern": format!("^({DURATION})$") }),
        ValueKind::Durations(_, _, most) => json!({
            "type": "array", "minItems": 1, "maxItems": most,
            "items": { "type": "string", "pattern": format!("^({DURATION})$") },
        }),
        ValueKind::Size(..) => json!({ "type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?([kKMGT]B|[KMGT]iB|B)$|^0$" }),
        ValueKind::OneOf(words) => json!({ "type": "string", "enum": words }),
        ValueKind::Text => json!({ "type": "string" }),
        ValueKind::Url => json!({ "type": "string", "pattern": "^(https?://.+)?$" }),
        ValueKind::ProxyUrl => {
            json!({ "type": "string", "pattern": format!("^(({})://.+)?$", PROXY_SCHEMES.join("|")) })
        }
        ValueKind::Webhook => {
            json!({ "type": "string", "pattern": r"^(https://.+|http://(localhost|127\.[0-9.]+|\[::1\])([:/?].*)?)?$" })
        }
        ValueKind::PoolUrl => json!({ "type": "string", "pattern": "^(postgres(ql)?://.+)?$" }),
        ValueKind::SshHost => json!({ "type": "string", "pattern": r"^([^-\s][^\s]*)?$" }),
        ValueKind::Command => json!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "maxItems": 64, "items": { "type": "string", "minLength": 1 } },
        ] }),
        ValueKind::Listen => json!({ "type": "string", "pattern": "^.+:[0-9]+$" }),
        ValueKind::Variable => json!({ "type": "string", "pattern": "^([A-Za-z_][A-Za-z0-9_]*)?$" }),
        ValueKind::Texts(least, most) => json!({
            "type": "array", "minItems": least, "maxItems": most, "items": { "type": "string", "minLength": 1 },
        }),
        ValueKind::Protect => json!({
            "type": "array",
            "items": {
                "type": "object", "additionalProperties": false, "required": ["models", "below"],
                "properties": {
                    "models": { "type": "array", "minItems": 1, "items": { "type": "string", "minLength": 1 } },
                    "below": { "type": "number", "minimum": 0, "maximum": 1 },
                },
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_schema_with_its_default() {
        let schema = json_schema();
        for key in KEYS {
            let mut node = &schema;
            for part in key.key.split('.') {
                assert_eq!(node["type"], "object", "{}", key.key);
                node = if part == "*" { &node["additionalProperties"] } else { &node["properties"][part] };
            }
            assert!(node["description"].as_str().unwrap().starts_with(key.doc), "{}", key.key);
            assert_eq!(node.get("default").is_some(), key.default.is_some(), "{}", key.key);
        }
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["leases"]["properties"]["ttl"]["default"], "10m");
        assert_eq!(schema["properties"]["providers"]["additionalProperties"]["properties"]["oauth"]["type"], "object");
    }
}
