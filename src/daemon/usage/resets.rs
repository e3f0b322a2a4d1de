//! The use of banked resets: the requests, and the file that knows which uses have begun.
//!
//! A use cannot be undone, and its answer can be lost. So its id is on the disk before the request is sent, and every
//! later attempt repeats it: the provider then knows that it is the same use.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::account_query::AccountQuery;
use crate::daemon::{os::clock, state::Daemon};
use crate::http;
use crate::pool::{AccountId, Wall};
use crate::usage::{self, BankedResets, ResetOutcome, ResetRequest, UsageError};

/// The longest file that is read, in bytes; lessor writes less.
const MAX_BYTES: u64 = 1 << 20;
/// A use that began earlier is forgotten: resets are valid for about a month.
const FORGOTTEN: Duration = Duration::from_secs(400 * 86_400);

/// A use that has begun, and whose result is not known.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct PendingReset {
    pub(crate) request: ResetRequest,
    pub(crate) begun_at: Wall,
}

/// The file with the uses that have begun, by account.
#[derive(Clone, Debug)]
pub(crate) struct ResetFile(PathBuf);

impl ResetFile {
    pub(crate) fn of(daemon: &Daemon) -> Self {
        Self(daemon.run.state_directory.join("resets.json"))
    }

    /// The use that has begun for this account, or for one of these resets under another account's id.
    ///
    /// # Errors
    /// When the file cannot be read, or is damaged: then no reset may be used, because it may be a second one.
    pub(crate) fn pending(&self, id: AccountId, resets: &BankedResets) -> io::Result<Option<PendingReset>> {
        let known = self.read()?;
        let is_one_of_them =
            |pending: &&PendingReset| resets.credits.iter().any(|credit| credit.id == pending.request.credit);
        Ok(known.get(&id.to_string()).or_else(|| known.values().find(is_one_of_them)).cloned())
    }

    /// Writes a use that begins, synced to the disk.
    pub(crate) fn begin(&self, id: AccountId, pending: PendingReset) -> io::Result<()> {
        let mut known = self.read()?;
        known.retain(|_, other| pending.begun_at.since(other.begun_at) < FORGOTTEN);
        known.insert(id.to_string(), pending);
        self.write(&known)
    }

    /// Forgets a use whose result is known.
    pub(crate) fn forget(&self, id: AccountId, request: &ResetRequest) -> io::Result<()> {
        let mut known = self.read()?;
        known.retain(|of, pending| *of != id.to_string() && pending.request != *request);
        self.write(&known)
    }

    fn read(&self) -> io::Result<BTreeMap<String, PendingReset>> {
        let mut text = String::new();
        match File::open(&self.0).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text)) {
            Ok(_) => Ok(serde_json::from_str(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        }
    }

    fn write(&self, known: &BTreeMap<String, PendingReset>) -> io::Result<()> {
        let directory = self.0.parent().unwrap_or(Path::new("."));
        // created with mode 0600
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&serde_json::to_vec(known)?)?;
        file.as_file().sync_all()?;
        let file = file.persist(&self.0).map_err(|error| error.error)?;
        // the new name is durable, too: Windows syncs it with the file
        if cfg!(windows) { file.sync_all() } else { sync_directory(directory) }
    }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory).and_then(|directory| directory.sync_all()) {
        // some network file systems cannot sync directories
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

/// Notes for which accounts a use has begun before this run.
pub(super) fn restore_unfinished(daemon: &Daemon) {
    match ResetFile::of(daemon).read() {
        Ok(known) => {
            let accounts = known.keys().filter_map(|id| id.parse::<AccountId>().ok());
            daemon.state().usage_notes.unfinished_resets.extend(accounts);
        }
        Err(error) => tracing::warn!("the file with the begun uses of limit resets cannot be read: {error}"),
    }
}

/// An account, and the way to its provider.
pub(crate) struct AccountResets {
    query: AccountQuery,
    client: reqwest::Client,
}

impl AccountResets {
    /// `None` while the account has no valid token.
    ///
    /// # Errors
    /// When no client for the provider can be made.
    pub(crate) fn of(daemon: &Daemon, id: AccountId) -> Result<Option<Self>, String> {
        let query = AccountQuery::of(&daemon.state(), id, clock::now());
        let Some(query) = query else { return Ok(None) };
        let client = http::client(&query.reach).map_err(|error| error.to_string())?;
        Ok(Some(Self { query, client }))
    }

    /// Asks which resets there are.
    pub(crate) async fn list(&self) -> Result<BankedResets, UsageError> {
        let question = self.query.question(false, clock::now());
        usage::query_resets(&self.client, &question, self.query.token.expose()).await
    }

    /// Uses one of them, or repeats that.
    pub(crate) async fn use_one(&self, request: &ResetRequest) -> Result<ResetOutcome, UsageError> {
        let question = self.query.question(false, clock::now());
        usage::use_reset(&self.client, &question, self.query.token.expose(), request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::ResetCredit;

    fn pending(credit: &str, begun_at: u64) -> PendingReset {
        let request = ResetRequest { credit: credit.to_owned(), request: format!("id of {credit}") };
        PendingReset { request, begun_at: Wall(begun_at) }
    }

    fn banked(credit: &str) -> BankedResets {
        let credit = ResetCredit { id: credit.to_owned(), ..ResetCredit::default() };
        BankedResets { available: 1, credits: vec![credit], as_of: Wall(0) }
    }

    #[test]
    fn a_begun_use_is_found_by_its_account_or_its_reset_until_its_result_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let file = ResetFile(directory.path().join("resets.json"));
        let (one, other) = (AccountId::from_bits(1), AccountId::from_bits(2));
        assert_eq!(file.pending(one, &banked("a")).unwrap(), None);
        file.begin(one, pending("a", 1)).unwrap();
        assert_eq!(file.pending(one, &banked("b")).unwrap(), Some(pending("a", 1)));
        assert_eq!(file.pending(other, &banked("a")).unwrap(), Some(pending("a", 1)), "the account was added again");
        assert_eq!(file.pending(other, &banked("b")).unwrap(), None);
        file.forget(other, &pending("a", 1).request).unwrap();
        assert_eq!(file.pending(one, &banked("a")).unwrap(), None);
        file.begin(one, pending("a", 1)).unwrap();
        let late = 1 + u64::try_from(FORGOTTEN.as_millis()).unwrap();
        file.begin(other, pending("b", late)).unwrap();
        assert_eq!(file.pending(one, &banked("x")).unwrap(), None, "it is forgotten after a year");
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = ResetFile(directory.path().join("resets.json"));
        for text in ["", "{", "[]", r#"{"ac_00000001":{"begun_at":1}}"#] {
            std::fs::write(&file.0, text).unwrap();
            assert!(file.pending(AccountId::from_bits(1), &banked("a")).is_err(), "{text}");
            assert!(file.begin(AccountId::from_bits(1), pending("a", 1)).is_err(), "{text}");
            assert_eq!(std::fs::read_to_string(&file.0).unwrap(), text, "it is not replaced");
        }
    }
}
