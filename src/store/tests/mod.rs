//! The store's public interface, tested on real files.

mod backups;
mod damage;
mod failing;
mod golden;
mod opening;
#[cfg(unix)]
mod read_only;
mod refusals;
mod rekeying;
mod round_trip;
mod shared_pool;

use std::sync::mpsc::{Receiver, channel};
use std::{path::Path, sync::Arc, time::Duration};

use rusqlite::Connection;
use tempfile::TempDir;

use super::database::{row_tags, schema};
use super::writer::WriterMessage;
use super::*;
use crate::credential::{Credential, FormerCredential, FormerRole, Secret};
use crate::limits::{Reason, Scope};
use crate::pool::{
    AccountId, AccountOwner, AccountRecord, AccountSet, Bind, ChosenBy, ConnectionId, CredentialKind, Fence, Holder,
    Lease, LimitRecord, LimitSource, LoginProblem, LoginState, Mono, Process, SessionRecord, Snapshot, Target, Tier,
    Verification, Wall,
};

/// A temporary directory for each test.
struct Home {
    directory: TempDir,
    paths: StorePaths,
}

fn paths_in(directory: &Path) -> StorePaths {
    StorePaths { database: directory.join("lessor.db"), key: directory.join("key"), key_backend: KeyBackend::File }
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths_in(directory.path());
        Self { directory, paths }
    }

    fn with_store() -> (Self, Store) {
        let home = Self::new();
        let store = home.open().store;
        (home, store)
    }

    fn open(&self) -> OpenedStore {
        self.open_in("boot-1")
    }

    fn open_in(&self, boot: &str) -> OpenedStore {
        Store::open(&self.paths, boot).unwrap()
    }

    fn refusal(&self) -> String {
        Store::open(&self.paths, "boot-1").unwrap_err().to_string()
    }

    /// A copy of the files as they are now, as after a crash.
    fn crashed(&self) -> Self {
        let copy = Self::new();
        for entry in std::fs::read_dir(self.directory.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.directory.path().join(entry.file_name())).unwrap();
        }
        copy
    }

    fn raw(&self) -> Connection {
        Connection::open(&self.paths.database).unwrap()
    }

    /// All bytes of the database and its companion files.
    fn bytes(&self) -> Vec<u8> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| *path != self.paths.key).flat_map(|path| std::fs::read(path).unwrap()).collect()
    }
}

impl Store {
    fn put(&self, write: Write) -> Receiver<Result<(), WriteError>> {
        let (tell, told) = channel();
        self.write(write, Some(Box::new(move |result| _ = tell.send(result))));
        told
    }

    fn done(&self, write: Write) -> Result<(), WriteError> {
        self.put(write).recv_timeout(Duration::from_secs(60)).unwrap()
    }

    /// Runs a function on the open database and waits for it.
    fn touch(&self, touch: impl FnOnce(&Connection) + Send + 'static) {
        let (tell, told) = channel();
        let touch = Box::new(move |database: &Connection| {
            touch(database);
            tell.send(()).unwrap();
        });
        self.inbox.send(WriterMessage::Touch(touch)).unwrap();
        told.recv_timeout(Duration::from_secs(60)).unwrap();
    }
}

fn record(bits: u64) -> AccountRecord {
    AccountRecord {
        id: AccountId::from_bits(bits),
        provider: "anthropic".into(),
        label: None,
        email: Some(format!("{bits}@example.org")),
        tier: Tier::Pro,
        kind: CredentialKind::Oauth,
        login_state: LoginState::Ready,
        enabled: true,
        disabled_reason: None,
        max_leases: None,
        priority: 0,
        allowed_agents: None,
        reserve: 0.0,
        fallback_only: false,
        project_id: None,
        owner: AccountOwner::default(),
        created_at: Wall(1_700_000_000_000),
        last_used_at: None,
    }
}

fn credential(access: &str) -> Credential {
    Credential {
        refresh: Some(Secret::new(format!("refresh-of-{access}"))),
        expires_at: Some(Wall(1_800_000_000_000)),
        ..Credential::new(CredentialKind::Oauth, Secret::new(access.into()))
    }
}

fn former(access: &str) -> FormerCredential {
    FormerCredential { credential: credential(access), role: FormerRole::Before, since: Wall(5) }
}

fn gateway_key(number: u8) -> GatewayKeyRecord {
    GatewayKeyRecord {
        hash: [number; 32],
        client: u64::MAX - 1,
        label: Some("my editor".into()),
        agent: Some("claude".into()),
        sealed: true,
        listed_at: Wall(1_700_000_000_000),
        expires_at: Some(Wall(1_800_000_000_000)),
        max_leases: Some(3),
        directory: None,
        last_used_at: Some(Wall(1_700_000_000_001)),
        revoked_at: Some(Wall(1_700_000_000_002)),
    }
}

fn client(name: &str) -> StoredClient {
    StoredClient {
        name: name.into(),
        provider: Some("google".into()),
        client_id: Some(format!("id-of-{name}")),
        secret: Some(Arc::new(Secret::new(format!("secret-of-{name}")))),
        added_at: Wall(1_700_000_000_003),
    }
}

/// What is kept of a shared pool: accounts 1 and 2 are its, and it does not have the answer of account 2.
fn pool_writes() -> Vec<Write> {
    let id = AccountId::from_bits;
    vec![
        Write::SavePoolMembership(Some(SecretBytes::new(b"canary of a membership".to_vec().into()))),
        Write::SavePoolTerm(Some((7, u64::MAX - 5))),
        Write::SaveSharedAccount(id(1), Some(3)),
        Write::SaveSharedAccount(id(2), Some(4)),
        Write::SavePoolAnswer(id(2), Some(4)),
    ]
}

/// What is loaded of a shared pool.
type LoadedPool = (Option<Vec<u8>>, Option<(i64, u64)>, Vec<(AccountId, i64)>, Vec<(AccountId, i64)>);

fn pool_of(loaded: &LoadedState) -> LoadedPool {
    let membership = loaded.membership.as_ref().map(|membership| membership.expose().to_vec());
    (membership, loaded.pool_term, loaded.shared_accounts.clone(), loaded.pool_answers.clone())
}

/// What [`pool_writes`] leave.
fn kept_pool() -> LoadedPool {
    let id = AccountId::from_bits;
    let membership = Some(b"canary of a membership".to_vec());
    (membership, Some((7, u64::MAX - 5)), vec![(id(1), 3), (id(2), 4)], vec![(id(2), 4)])
}

fn kept_account(bits: u64) -> AccountRecord {
    AccountRecord { reserve: 0.25, fallback_only: true, ..record(bits) }
}

fn restricted_lease(fence: u64, account: u64) -> Lease {
    let only = [AccountId::from_bits(1), AccountId::from_bits(5)];
    let set = AccountSet { only: Some(only.into()), directory: Some("/home/user/client-a".into()) };
    Lease { set: set.of_lease(), ..full_lease(fence, account) }
}

fn account(bits: u64, access: &str) -> Write {
    Write::SaveAccount { record: Box::new(record(bits)), credential: Some(credential(access)) }
}

fn lease(fence: u64, account: u64) -> Lease {
    Lease {
        fence: Fence(fence),
        account: AccountId::from_bits(account),
        target: Arc::new(Target {
            provider: "anthropic".into(),
            family: "claude".into(),
            key: "claude".into(),
            pool: None,
            model: None,
            names: None,
        }),
        session: None,
        label: None,
        agent: None,
        bind: Bind::Ttl,
        holder: Holder::default(),
        exclusive: false,
        pinned: false,
        set: None,
        by: ChosenBy::Resumed,
        ttl: None,
        expires: None,
        granted_at: Wall(5),
        request_id: None,
        subagent: None,
    }
}

fn full_lease(fence: u64, account: u64) -> Lease {
    let process = Process { pid: u32::MAX, start: u64::MAX - 3 };
    Lease {
        target: Arc::new(Target {
            pool: Some("antigravity".into()),
            model: Some("opus".into()),
            ..(*lease(1, 1).target).clone()
        }),
        session: Some("conversation".into()),
        label: Some("my label".into()),
        agent: Some("claude-code".into()),
        bind: Bind::Process(process),
        holder: Holder { process: Some(process), program: Some(Arc::from("claude")), ..Holder::default() },
        exclusive: true,
        pinned: true,
        ttl: Some(Duration::from_millis(90_500)),
        expires: Some(Mono(123_456)),
        request_id: Some("r-1".into()),
        ..lease(fence, account)
    }
}

fn limit(account: u64, key: &str, until: u64) -> LimitRecord {
    LimitRecord {
        account: AccountId::from_bits(account),
        key: key.into(),
        scope: Scope::Pool,
        reason: Reason::QuotaExhausted,
        until: Wall(until),
        source: LimitSource::Server,
        since: None,
        evidence: None,
        link: None,
    }
}

fn session(name: &str, account: u64, used_at: u64) -> SessionRecord {
    SessionRecord {
        provider: "anthropic".into(),
        session: name.into(),
        account: AccountId::from_bits(account),
        used_at: Wall(used_at),
    }
}
