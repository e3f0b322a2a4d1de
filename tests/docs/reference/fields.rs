//! JSON Schemas as tables of fields.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{cell, code, table, without_default};

const DEFINITIONS: &str = "#/$defs/";

/// The schemas of named types.
pub struct Types(Map<String, Value>);

/// How a type reads, and which named objects it consists of.
#[derive(Default)]
struct Reading {
    text: String,
    objects: BTreeSet<String>,
}

impl Types {
    pub fn new(definitions: &Map<String, Value>) -> Self {
        Self(definitions.clone())
    }

    /// The name of the object that a schema refers to, also as the element of a list.
    pub fn object_of<'a>(&self, schema: &'a Value) -> Option<&'a str> {
        let schema = schema.get("items").unwrap_or(schema);
        let name = schema["$ref"].as_str()?.strip_prefix(DEFINITIONS)?;
        self.0[name].get("properties").is_some_and(|fields| fields != &Value::Object(Map::new())).then_some(name)
    }

    /// How a result reads: the link to its object.
    pub fn read(&self, schema: &Value) -> String {
        self.reading(schema).text
    }

    /// The objects that this one refers to.
    pub fn objects_below(&self, name: &str) -> BTreeSet<String> {
        let fields = self.0[name]["properties"].as_object().into_iter().flatten();
        fields.flat_map(|(_, field)| self.reading(field).objects).collect()
    }

    /// What it says of an object.
    pub fn meaning(&self, name: &str) -> String {
        cell(self.0[name]["description"].as_str().unwrap_or_default())
    }

    /// The names of an object's fields, and which are always present.
    pub fn names(&self, name: &str) -> (BTreeSet<String>, BTreeSet<String>) {
        let all = self.0[name]["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone());
        let required = self.0[name]["required"].as_array().into_iter().flatten();
        (all.collect(), required.filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// The parameters of a call: which must be given, and what applies without the others.
    pub fn parameters(&self, name: &str) -> String {
        let definition = &self.0[name];
        let is_required =
            |field: &str| definition["required"].as_array().is_some_and(|all| all.contains(&field.into()));
        let rows: Vec<[String; 4]> = self.fields(name, |field, schema, reading| {
            let default = schema.get("default").filter(|default| !default.is_null() && *default != &Value::from(""));
            let meaning = description(schema);
            let (meaning, stated) = without_default(&meaning);
            let otherwise = match default {
                _ if is_required(field) => "required".to_owned(),
                Some(default) => code(&default.to_string()),
                None => stated.to_owned(),
            };
            [code(field), reading.text.replace(" or `null`", ""), otherwise, meaning.to_owned()]
        });
        // what must be given stands first
        let (mut rows, others): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|[_, _, default, _]| default == "required");
        rows.extend(others);
        if rows.is_empty() { String::new() } else { table(["parameter", "type", "default", "meaning"], &rows) }
    }

    /// The fields of an object in an answer.
    pub fn table(&self, name: &str) -> String {
        let rows = self.fields(name, |field, schema, reading| [code(field), reading.text, description(schema)]);
        table(["field", "type", "meaning"], &rows)
    }

    fn fields<R>(&self, name: &str, row: impl Fn(&str, &Value, Reading) -> R) -> Vec<R> {
        let fields = self.0[name]["properties"].as_object().into_iter().flatten();
        fields.map(|(field, schema)| row(field, schema, self.reading(schema))).collect()
    }

    fn reading(&self, schema: &Value) -> Reading {
        if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix(DEFINITIONS)) {
            if self.object_of(schema).is_some() {
                let text = format!("[`{name}`](#{})", name.to_lowercase());
                return Reading { text, objects: BTreeSet::from([name.to_owned()]) };
            }
            return self.reading(&self.0[name]);
        }
        for alternatives in ["anyOf", "oneOf", "allOf"] {
            if let Some(list) = schema[alternatives].as_array() {
                return join(list.iter().map(|one| self.reading(one)));
            }
        }
        if let Some(words) = schema["enum"].as_array() {
            return join(words.iter().map(|word| Reading::of(code(&word.to_string()))));
        }
        if let Some(word) = schema.get("const") {
            return Reading::of(code(&word.to_string()));
        }
        match &schema["type"] {
            Value::Array(types) => join(types.iter().map(|one| {
                let mut single = schema.clone();
                single["type"] = one.clone();
                self.reading(&single)
            })),
            Value::String(name) => self.named(name, schema),
            _ => Reading::of("any JSON value".to_owned()),
        }
    }

    fn named(&self, name: &str, schema: &Value) -> Reading {
        let text = match name {
            "array" if schema["prefixItems"].is_array() => {
                let parts = join(schema["prefixItems"].as_array().into_iter().flatten().map(|one| self.reading(one)));
                return Reading { text: format!("list of two: {}", parts.text), ..parts };
            }
            "array" => {
                let of = self.reading(&schema["items"]);
                return Reading { text: format!("list of {}", of.text), ..of };
            }
            // a variant with a value
            "object" if schema["properties"].is_object() => {
                let fields = schema["properties"].as_object().into_iter().flatten();
                let fields: Vec<String> =
                    fields.map(|(name, of)| format!("`{{\"{name}\": …}}` ({})", self.reading(of).text)).collect();
                fields.join(", ")
            }
            "object" => "object".to_owned(),
            "string" => "text".to_owned(),
            "boolean" => "true or false".to_owned(),
            "null" => "`null`".to_owned(),
            other => other.to_owned(),
        };
        Reading::of(text)
    }
}

impl Reading {
    fn of(text: String) -> Self {
        Self { text, objects: BTreeSet::new() }
    }
}

fn join(parts: impl Iterator<Item = Reading>) -> Reading {
    let mut all = Reading::default();
    let mut texts: Vec<String> = Vec::new();
    for part in parts {
        all.objects.extend(part.objects);
        if !texts.contains(&part.text) {
            texts.push(part.text);
        }
    }
    all.text = texts.join(" or ");
    all
}

fn description(schema: &Value) -> String {
    cell(schema["description"].as_str().unwrap_or_default())
}
