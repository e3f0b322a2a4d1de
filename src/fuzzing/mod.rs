//! What the fuzz targets of `fuzz/` run: each function takes any bytes, and panics when something that must always hold
//! does not. It is compiled for fuzzing and for tests only; the tests run the corpus in `fuzz/corpus` through the same
//! functions.

mod config_text;
mod import_files;
pub(crate) mod message;
mod upstream;
mod wire;

pub use crate::credential::oauth::fuzzing::{oauth_answer, oauth_callback};
pub use crate::gateway::fuzzing::gateway_head;
pub use crate::gateway::{request_fuzzing::gateway_request, response_fuzzing::gateway_response};
pub use crate::protocol::fuzzing::keys;
pub use config_text::config;
pub use import_files::{import, import_database};
pub use upstream::classify;
pub use wire::{answers, frames, lines};

/// A function that takes any bytes.
pub type FuzzTarget = fn(&[u8]);

/// All targets, by the names of their programs and of the folders of their corpus.
pub const TARGETS: [(&str, FuzzTarget); 13] = [
    ("frames", frames),
    ("lines", lines),
    ("answers", answers),
    ("config", config),
    ("classify", classify),
    ("import", import),
    ("import_database", import_database),
    ("oauth_callback", oauth_callback),
    ("oauth_answer", oauth_answer),
    ("gateway_head", gateway_head),
    ("gateway_request", gateway_request),
    ("gateway_response", gateway_response),
    ("keys", keys),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The corpus holds seeds that describe the formats, and every finding of the past.
    #[test]
    fn the_corpus_has_no_findings() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let mut known: Vec<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        known.sort_unstable();
        let names = std::fs::read_dir(&corpus).unwrap();
        let mut folders: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        folders.sort_unstable();
        assert_eq!(folders, known, "each target has a corpus");
        for (name, target) in TARGETS {
            let mut paths: Vec<_> =
                std::fs::read_dir(corpus.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
            paths.sort();
            assert!(!paths.is_empty(), "{name}");
            for path in paths {
                println!("{}", path.display());
                target(&std::fs::read(path).unwrap());
            }
            target(b"");
            target(&[0xff; 300]);
        }
    }

    #[test]
    fn each_target_has_a_program() {
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let manifest = std::fs::read_to_string(package.join("Cargo.toml")).unwrap();
        let programs = manifest.lines().filter_map(|line| line.strip_prefix("path = \"")).count();
        assert_eq!(programs, TARGETS.len());
        for (name, _) in TARGETS {
            let program = std::fs::read_to_string(package.join(format!("targets/{name}.rs"))).unwrap();
            assert!(program.contains(&format!("lessor::fuzzing::{name}(")), "{name}");
        }
    }
}
