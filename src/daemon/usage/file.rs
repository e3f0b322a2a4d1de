//! What usage polling keeps between runs: how often each account was asked about, and its plan. No secret is in it; it lies
//! in the state directory, and is lost without harm. The windows are in the store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::pool::AccountId;
use crate::usage::PollHistory;

/// More is not what we wrote.
const LONGEST: u64 = 8 << 20;

/// What is kept of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SavedUsage {
    /// When it was asked about.
    pub(crate) ledger: PollHistory,
    /// Its plan.
    pub(crate) plan: Option<String>,
}

/// What an earlier run has kept; nothing, if that cannot be read.
pub(crate) fn read(path: &Path) -> BTreeMap<AccountId, SavedUsage> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
    if read.is_err() {
        return BTreeMap::new();
    }
    let by_name: BTreeMap<String, SavedUsage> = serde_json::from_str(&text).unwrap_or_default();
    by_name.into_iter().filter_map(|(name, kept)| Some((name.parse().ok()?, kept))).collect()
}

/// Keeps it: whole, or not at all.
pub(crate) fn write(path: &Path, kept: &BTreeMap<AccountId, SavedUsage>) -> std::io::Result<()> {
    let by_name: BTreeMap<String, &SavedUsage> = kept.iter().map(|(id, kept)| (id.to_string(), kept)).collect();
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(serde_json::to_string(&by_name)?.as_bytes())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Wall;

    #[test]
    fn what_is_kept_comes_back_and_rubbish_is_nothing() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("usage.json");
        assert!(read(&path).is_empty());
        let mut one = SavedUsage { plan: Some("max".into()), ..SavedUsage::default() };
        one.ledger.record_poll(Wall(1));
        let kept = BTreeMap::from([(AccountId::from_bits(5), one)]);
        write(&path, &kept).unwrap();
        assert_eq!(read(&path), kept);
        for text in ["", "{", "[]", r#"{"x":{}}"#, r#"{"ac_00000005":{"ledger":7}}"#] {
            std::fs::write(&path, text).unwrap();
            assert!(read(&path).is_empty(), "{text}");
        }
    }
}
