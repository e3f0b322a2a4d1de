//! The responses in `answers/*.jsonl`, one table per vendor, classified by the program.
//!
//! A row: `name`, a response as `lessor classify` reads it (provider: the table's, status: 429, where left out; a body
//! may be a document), and the keys of the output that are `expect`ed.

use serde_json::{Value, json};

use super::command::classify;

fn check(provider: &str, table: &str) {
    let rows: Vec<Value> = table.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let input: Vec<Value> = rows
        .iter()
        .map(|row| {
            let body = match &row["body"] {
                Value::String(text) => text.clone(),
                document => document.to_string(),
            };
            json!({
                "provider": row.get("provider").cloned().unwrap_or(json!(provider)),
                "status": row.get("status").cloned().unwrap_or(json!(429)),
                "headers": row.get("headers").cloned().unwrap_or(json!({})),
                "body": body,
                "now": row.get("now").cloned().unwrap_or(json!(1_790_000_000_000_u64)),
                "name": row["name"],
            })
        })
        .collect();
    let done = classify(&["--evidence"], &input);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert_eq!(done.lines.len(), rows.len());
    let mut wrong = Vec::new();
    for (row, line) in rows.iter().zip(&done.lines) {
        for (key, expected) in row["expect"].as_object().unwrap() {
            if line[key] != *expected {
                wrong.push(format!("{}: {key}: expected {expected}, found {}\n    {line}", row["name"], line[key]));
            }
        }
        let evidence = line["evidence"].as_str().unwrap_or_default();
        assert!(evidence.len() <= 240 && !evidence.contains("sk-proj"), "{line}");
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn google() {
    check("google", include_str!("answers/google.jsonl"));
}

#[test]
fn anthropic() {
    check("anthropic", include_str!("answers/anthropic.jsonl"));
}

#[test]
fn openai() {
    check("openai", include_str!("answers/openai.jsonl"));
}

#[test]
fn others() {
    check("other", include_str!("answers/others.jsonl"));
}
