//! The configuration file.

use std::path::Path;

use crate::config::{Config, edit};

/// The longest text for people about one file, in bytes.
const LONGEST_REPORT: usize = 256 * 1024;

/// A file, its problems, and its values after one key was changed.
pub fn config(input: &[u8]) {
    let path = Path::new("/etc/lessor/config.toml");
    let config = match Config::parse_bytes(input.to_vec(), path) {
        Err(errors) => {
            assert!(!errors.problems.is_empty());
            let lines = input.split(|byte| *byte == b'\n').count();
            for problem in &errors.problems {
                assert!(!problem.message.is_empty());
                assert!(problem.line as usize <= lines, "{problem:?} of {lines} lines");
            }
            assert!(errors.to_string().len() + errors.headlines().len() <= LONGEST_REPORT);
            return;
        }
        Ok(config) => config,
    };
    let Ok(text) = str::from_utf8(input) else { panic!("what is not UTF-8 was accepted") };
    let settings = config.show();
    for setting in &settings {
        assert_eq!(config.get(&setting.key).as_ref().map(|again| &again.value), Ok(&setting.value), "{}", setting.key);
        let _shown = (setting.literal(), setting.row());
    }
    config.check().iter().for_each(|warning| assert!(!warning.message.is_empty()));
    assert_edits(text, path, &config);
}

/// Checks that setting a key, and removing it again, changes no other key.
fn assert_edits(text: &str, path: &Path, before: &Config) {
    for (key, value) in [("leases.ttl", "7m"), ("daemon.log", "debug"), ("accounts.\"a.b\".priority", "3")] {
        let Ok(named) = edit::NamedKey::find(key) else { panic!("{key} is no key") };
        let Ok((changed, _)) = edit::set(text, path, &named, value) else { continue };
        let Ok(after) = Config::parse(&changed, path) else { panic!("the changed file is invalid") };
        assert_same_but(before, &after, key);
        let Ok(removed) = edit::unset(&changed, path, &named) else { continue };
        let Ok(after) = Config::parse(&removed, path) else { panic!("the file without {key} is invalid") };
        assert_same_but(before, &after, key);
    }
}

fn assert_same_but(before: &Config, after: &Config, key: &str) {
    let others = |config: &Config| -> Vec<_> {
        let settings = config.show().into_iter().filter(|setting| setting.key != key);
        settings.map(|setting| (setting.key, setting.value)).collect()
    };
    assert_eq!(others(before), others(after), "{key}");
}
