//! The file that usage polling keeps between runs: when each account was polled, its plan and
//! its banked resets. It holds no secret and may be lost. The windows are in the store.

use std::io::{Read, Write};
use std::{collections::BTreeMap, fs::File, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    pool::AccountId,
    usage::{BankedResets, PollHistory},
};

/// The longest file that is read, in bytes; lessor writes less.
const MAX_BYTES: u64 = 8 << 20;

/// What is saved of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SavedUsage {
    /// When it was polled.
    pub(super) ledger: PollHistory,
    /// Its plan.
    pub(super) plan: Option<String>,
    /// Its banked resets.
    pub(super) resets: Option<BankedResets>,
}

/// What an earlier run saved; empty if that cannot be read.
pub(super) fn read(path: &Path) -> BTreeMap<AccountId, SavedUsage> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
    if read.is_err() {
        return BTreeMap::new();
    }
    let by_name: BTreeMap<String, SavedUsage> = serde_json::from_str(&text).unwrap_or_default();
    by_name.into_iter().filter_map(|(name, kept)| Some((name.parse().ok()?, kept))).collect()
}

/// Replaces the file, atomically.
pub(super) fn write(path: &Path, kept: &BTreeMap<AccountId, SavedUsage>) -> std::io::Result<()> {
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
    fn a_saved_file_is_restored_and_a_damaged_one_is_ignored() {
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
