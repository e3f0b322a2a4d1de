//! The structure of `src`: imports point only downwards, and the pure folders use no I/O. The layers are described in
//! `docs/architecture.md`.

#[path = "layering/imports.rs"]
mod imports;
#[path = "layering/layers.rs"]
mod layers;
#[path = "layering/source.rs"]
mod source;
#[path = "layering/state_lock.rs"]
mod state_lock;
#[path = "layering/types.rs"]
mod types;
#[path = "layering/words.rs"]
mod words;

use std::path::Path;

use source::{SourceFile, read_tree};

fn src() -> Vec<SourceFile> {
    read_tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

#[test]
fn imports_point_downwards_and_the_core_is_pure() {
    let files = src();
    let of_file = |file: &SourceFile| {
        let path = file.path.clone();
        layers::violations(file).into_iter().map(move |what| format!("{path}: {what}"))
    };
    let wrong: Vec<String> = files.iter().flat_map(of_file).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Type names that may be defined more than once. Each row says why.
const MAY_BE_DEFINED_TWICE: &[(&str, &str)] = &[];

/// Words in these files are quotes of other texts, for example of an upstream's error: (file, word).
const QUOTES: &[(&str, &str)] = &[
    // a golden sample
    ("docs/reference/protocol.md", "nobody"),
];

/// README and the other pages for people.
fn documentation() -> Vec<SourceFile> {
    fn read(root: &Path, path: &str, found: &mut Vec<SourceFile>) {
        if let Ok(folder) = std::fs::read_dir(root.join(path)) {
            for entry in folder {
                read(root, &format!("{path}/{}", entry.unwrap().file_name().display()), found);
            }
        } else if path.ends_with(".md") {
            let text = std::fs::read_to_string(root.join(path)).unwrap();
            found.push(SourceFile { path: path.to_owned(), text, code: String::new() });
        }
    }
    let mut found = Vec::new();
    for path in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs"] {
        read(Path::new(env!("CARGO_MANIFEST_DIR")), path, &mut found);
    }
    found
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let circles = imports::circles(&src());
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn a_type_name_is_defined_once() {
    let mut twice = types::defined_twice(&src());
    twice.retain(|name, _| MAY_BE_DEFINED_TWICE.iter().all(|(allowed, _)| allowed != name));
    assert!(twice.is_empty(), "{twice:#?}");
}

#[test]
fn the_language_is_plain() {
    let files: Vec<SourceFile> = src().into_iter().chain(documentation()).collect();
    let found = words::found(&files, QUOTES);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn nothing_under_the_state_lock_calls_the_system() {
    let files = src();
    let state: Vec<&SourceFile> = files.iter().filter(|file| file.path.starts_with(state_lock::FOLDER)).collect();
    assert!(!state.is_empty(), "there is no src/{}", state_lock::FOLDER);
    let of_file = |file: &&SourceFile| {
        let path = file.path.clone();
        state_lock::violations(file).into_iter().map(move |what| format!("{path} {what}"))
    };
    let wrong: Vec<String> = state.iter().flat_map(of_file).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Encoding an answer, or handing bytes to a connection: (what, the files of `src/daemon` that may do it).
const ANSWERS: &[(&str, &[&str])] = &[
    // a relay passes on what the host has answered, and answers `status` while the host cannot
    ("codec.answer(", &["daemon/api/reply.rs", "daemon/host_link/relay.rs"]),
    ("codec.refusal(", &["daemon/api/reply.rs", "daemon/host_link/relay.rs"]),
    (
        "outbox.push(",
        &["daemon/api/reply.rs", "daemon/api/reply/lease.rs", "daemon/event_queue.rs", "daemon/host_link/relay.rs"],
    ),
    ("into_parts()", &["daemon/api/reply.rs", "daemon/api/reply/lease.rs"]),
];

#[test]
fn only_the_reply_path_answers_calls() {
    let files = src();
    let daemon = files.iter().filter(|file| file.path.starts_with("daemon/"));
    let of_file = |file: &SourceFile| {
        let code: String = file.shipped_code().split_whitespace().collect();
        let found = ANSWERS.iter().filter(|(what, may)| code.contains(what) && !may.contains(&file.path.as_str()));
        found.map(|(what, _)| format!("{} has {what}", file.path)).collect::<Vec<_>>()
    };
    let wrong: Vec<String> = daemon.flat_map(of_file).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The walks of `docs/architecture.md`: (heading, the most files).
const WALKS: &[(&str, usize)] = &[("### One acquire", 18), ("### One 429", 25), ("### One refresh", 12)];

#[test]
fn the_walks_of_the_architecture_are_short_and_name_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    for (heading, most) in WALKS {
        let walk = text.split(heading).nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
        let walk = walk.split("\n### ").next().unwrap();
        let steps: Vec<&str> = walk.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).collect();
        assert!(!steps.is_empty() && steps.len() <= *most, "{heading}: {} steps", steps.len());
        for step in steps {
            let file = step.split('`').nth(1).unwrap();
            assert!(root.join("src").join(file).is_file(), "{heading}: there is no src/{file}");
        }
    }
}
