//! Damaged and hostile files.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::*;
use super::{LATER, NOW, content, read_json};

#[test]
fn damaged_data_is_reported_and_never_quoted() {
    let deep = "[".repeat(100_000);
    let canary = r#"{"version":4,"accounts":[{"refreshToken":"sk-canary"#;
    for (bytes, part) in [
        (&b"\xff\xfe{"[..], "not UTF-8"),
        (b"", "not JSON"),
        (b"null", "its format is not known"),
        (b"{\"a\": {}}", "its format is not known"),
        (b"\"sk-canary\"", "its format is not known"),
        (canary.as_bytes(), "not JSON"),
        (deep.as_bytes(), "not JSON"),
    ] {
        let error = read(&content(bytes)).unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains("canary"), "{error}");
    }
    for nothing in ["{}", "[]", "\u{feff}{}\r\n"] {
        let (format, reading) = read(&content(nothing.as_bytes())).unwrap();
        assert_eq!((format, reading.entries.len(), reading.problems.len()), (FileFormat::Empty, 0, 0));
    }
    // a byte order mark, Windows line ends, zero bytes left by a crash, a duplicate key
    let text =
        "\u{feff}{\r\n\"version\": 4,\r\n\"accounts\": [],\r\n\"accounts\": [{\"refreshToken\": \"1//FAKE\"}]\r\n}\0\0";
    assert_eq!(read(&content(text.as_bytes())).unwrap().1.entries.len(), 1);
    let odd = json!({ "version": 4, "accounts": [
        { "refreshToken": "1//FAKE", "email": "a\nb", "projectId": 7, "lastUsed": "never", "enabled": "no",
          "rateLimitResetTimes": { "claude": "soon", "sk-canary\u{1b}": LATER } },
        { "refreshToken": "with blank" }, { "refreshToken": "x".repeat(70_000) } ] });
    let (_, reading) = read_json(&odd);
    assert_eq!(reading.entries.len(), 1);
    assert!(reading.entries[0].email.is_none() && reading.entries[0].limits.is_empty());
    assert!(!format!("{:?}", reading.problems).contains("blank\""), "{:?}", reading.problems);
    let long = format!("https://accounts.google.com/signin/continue?plt={}", "x".repeat(2000));
    for (link, kept) in [(long.as_str(), true), ("javascript:alert(1)", false), ("https://a b", false)] {
        let verify = json!({ "version": 4, "accounts": [{ "refreshToken": "1//FAKE", "verificationRequired": true, "verificationUrl": link }] });
        let (_, reading) = read_json(&verify);
        assert_eq!(reading.entries[0].verification.as_ref().unwrap().ends_with(link), kept, "{link}");
    }
    let many = json!({ "version": 4, "accounts": vec![json!({ "refreshToken": "1//FAKE" }); MOST_ENTRIES + 5] });
    let (_, reading) = read_json(&many);
    assert_eq!((reading.entries.len(), reading.problems.len()), (MOST_ENTRIES, 1));
}

#[test]
fn a_debug_print_shows_no_token() {
    let (_, reading) = read_json(&json!({ "claudeAiOauth": { "accessToken": "canary", "refreshToken": "canary" } }));
    assert!(!format!("{reading:?}").contains("canary"));
}

/// JSON that resembles a tool's file, with arbitrary values.
fn document() -> impl Strategy<Value = Value> {
    let names = "version accounts refreshToken refresh access token tokens type id email quota claudeAiOauth \
        accessToken expiresAt access_token refresh_token expiry_date id_token rateLimitResetTimes \
        live_limited_models until enabled lessor_export credential kind provider OPENAI_API_KEY proxy \
        health_score scheduling_mode claude anthropic";
    let names = prop::sample::select(names.split(' ').collect::<Vec<_>>());
    let texts = "oauth api claude codex gemini x.e30.y 1//FAKE 2026-06-02T00:00:00Z";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop::sample::select(texts.split(' ').collect::<Vec<_>>()).prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..6)
                .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_harmless(bytes: Vec<u8>) {
        let _ = read(&content(&bytes));
    }

    #[test]
    fn any_document_is_harmless(document in document(), cut: prop::sample::Index) {
        let text = document.to_string();
        if let Ok((_, reading)) = read(&content(text.as_bytes())) {
            for entry in &reading.entries {
                prop_assert!(!entry.provider.is_empty());
                prop_assert!(entry.limits.iter().all(|limit| limit.until > Wall(NOW)));
            }
        }
        let _ = read(&content(&text.as_bytes()[..cut.index(text.len())]));
    }

    /// Randomly damaged samples of every tool: nothing panics, and no message quotes a token.
    #[test]
    fn any_broken_sample_is_harmless(which: prop::sample::Index, hits: Vec<(prop::sample::Index, u8, u8)>, cut: prop::sample::Index) {
        let samples = samples();
        let mut bytes = samples[which.index(samples.len())].clone();
        for (place, kind, byte) in hits {
            let place = place.index(bytes.len());
            match kind % 4 {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                2 if bytes.len() > 1 => drop(bytes.remove(place)),
                _ => bytes[place] = b"{}[]\",:0n"[usize::from(byte) % 9],
            }
        }
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            let whole = FileContent { beside: Some(bytes), ..content(bytes) };
            let said = match read(&whole) {
                Ok((_, reading)) => format!("{:?} {:?}", reading.problems, reading.unmatched),
                Err(error) => error.to_string(),
            };
            prop_assert!(!said.contains("FAKE-"), "{said}");
        }
    }
}

fn samples() -> Vec<Vec<u8>> {
    fn gather(directory: &std::path::Path, found: &mut Vec<Vec<u8>>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { gather(&path, found) } else { found.push(std::fs::read(path).unwrap()) }
        }
    }
    let mut found = Vec::new();
    gather(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/import"), &mut found);
    // checks that the samples are valid before they are damaged
    let filled = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap().replace("@TOMORROW@", "2026-06-02T00:00:00Z");
        text.replace("@TOMORROW_MS@", "1780358400000").replace("@TOMORROW_S@", "1780358400").into_bytes()
    };
    found.into_iter().map(filled).collect()
}
