//! Why a call to the pool's database failed, and what mends it. No secret is in these messages.

use std::fmt;

use tokio_postgres::error::SqlState;

/// A call to the shared pool failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SharedPoolError {
    kind: SharedPoolErrorKind,
    place: String,
    what: String,
}

/// What kind of failure it is: programs decide by it, and it decides the remedy that people read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SharedPoolErrorKind {
    /// The URL is not one that lessor accepts.
    Address,
    /// The server cannot be reached, or did not answer in time. Whether the call took effect is not known.
    Unreachable,
    /// The server did not accept user and password.
    Auth,
    /// TLS failed, or is missing where it is required.
    Tls,
    /// The database has no pool.
    NoPool,
    /// The database has a pool already.
    PoolExists,
    /// The pool was made or upgraded by a newer version of lessor.
    SchemaNewer,
    /// The pool was made by an older version of lessor.
    SchemaOlder,
    /// The server is set up so that it can forget what it has confirmed.
    Unsafe,
    /// The database role is no host of this pool.
    NotMember,
    /// This host was evicted, or has left.
    Evicted,
    /// The host has not this right.
    NotPermitted,
    /// The role may not create the pool, or does not own it.
    NotOwner,
    /// The term of this host is over.
    TermOver,
    /// The keys of the pool were replaced: this host seals with old ones.
    KeysReplaced,
    /// No such account, host or invitation.
    NotFound,
    /// What should be added is there already.
    Conflict,
    /// The database refused the call.
    Refused,
    /// The answer is not one that this version understands.
    BadAnswer,
}

impl SharedPoolError {
    pub(in crate::shared_pool) fn new(
        kind: SharedPoolErrorKind,
        place: impl Into<String>,
        what: impl Into<String>,
    ) -> Self {
        Self { kind, place: place.into(), what: what.into() }
    }

    pub(in crate::shared_pool) fn with_kind(self, kind: SharedPoolErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// An error of this kind, where there is no database.
    #[cfg(test)]
    pub(crate) fn for_tests(kind: SharedPoolErrorKind) -> Self {
        Self::new(kind, "db.example:5432/lessor", "a test")
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> SharedPoolErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later without a change by a person.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.kind == SharedPoolErrorKind::Unreachable
    }

    /// What happened, without place and remedy.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What happened and where, without the remedy.
    #[must_use]
    pub fn message(&self) -> String {
        format!("the pool's database {}: {}", self.place, self.what)
    }

    /// What a person can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        self.kind.remedy()
    }

    /// What a person can do about it who has given the address of the pool's owner: no host has a part in it.
    #[must_use]
    pub fn remedy_for_owner(&self) -> &'static str {
        match self.kind {
            SharedPoolErrorKind::Auth => {
                "check the role in the URL, and give its password: --password-file FILE, or --password-stdin"
            }
            SharedPoolErrorKind::NoPool => {
                "check the URL; a new pool needs a database: docs/many-machines.md has the SQL"
            }
            SharedPoolErrorKind::Unreachable => "check the server, and its host and port in the URL",
            kind => kind.remedy(),
        }
    }

    pub(in crate::shared_pool) fn bad_answer(place: &str, what: impl fmt::Display) -> Self {
        Self::new(SharedPoolErrorKind::BadAnswer, place, format!("an answer cannot be read: {what}"))
    }

    /// What the driver reports. Details of the server are left out: they can contain values.
    pub(in crate::shared_pool) fn of_driver(place: &str, error: &tokio_postgres::Error) -> Self {
        if let Some(refusal) = error.as_db_error() {
            // the server's rules for clients refuse the machine, not the role; they have the same code
            if refusal.code() == &SqlState::INVALID_AUTHORIZATION_SPECIFICATION
                && refusal.message().contains("pg_hba.conf")
            {
                return Self::new(SharedPoolErrorKind::Refused, place, refusal.message());
            }
            return Self::new(kind_of(refusal.code()), place, refusal.message());
        }
        let mut innermost: &dyn std::error::Error = error;
        let mut tls = false;
        while let Some(inner) = innermost.source() {
            innermost = inner;
            tls |= innermost.is::<rustls::Error>();
        }
        let text = innermost.to_string();
        // rustls reports through io::Error, whose source is not always given
        let tls = tls || text.contains("certificate") || text.contains("does not support TLS");
        let kind = match () {
            () if tls => SharedPoolErrorKind::Tls,
            () if text.contains("password missing") => SharedPoolErrorKind::Auth,
            () => SharedPoolErrorKind::Unreachable,
        };
        Self::new(kind, place, text)
    }
}

/// The functions of the schema raise `LE…`; the rest is PostgreSQL's.
fn kind_of(code: &SqlState) -> SharedPoolErrorKind {
    use SharedPoolErrorKind as Kind;
    match code.code() {
        "LE001" => Kind::NotMember,
        "LE002" => Kind::Evicted,
        "LE003" | "42501" => Kind::NotPermitted,
        "LE004" => Kind::TermOver,
        "LE005" => Kind::KeysReplaced,
        "LE006" => Kind::NotFound,
        "LE007" | "23505" => Kind::Conflict,
        "LE008" => Kind::PoolExists,
        // the schema, a table or a function is missing
        "3F000" | "42P01" | "42883" | "3D000" => Kind::NoPool,
        "28P01" | "28000" => Kind::Auth,
        // administrator commands, a server that starts or ends, a database that takes no connections for a while, too many
        // connections, timeouts, lost races
        "55000" | "57P01" | "57P02" | "57P03" | "57014" | "55P03" | "40001" | "40P01" | "25006" => Kind::Unreachable,
        class if class.starts_with("08") || class.starts_with("53") => Kind::Unreachable,
        _ => Kind::Refused,
    }
}

impl SharedPoolErrorKind {
    /// What a person can do about it.
    fn remedy(self) -> &'static str {
        match self {
            Self::Address => {
                "write it as postgres://USER@HOST/DATABASE in [pool] url; the password comes with: lessor pool join --token-stdin"
            }
            Self::Unreachable => {
                "lessor tries again; if it lasts, check the server and the network: lessor pool status"
            }
            Self::Auth => {
                "ask an admin of the pool for a new token (lessor pool join-token) and give it to: lessor pool join --token-stdin"
            }
            Self::Tls => {
                "give the server a certificate that this host trusts, or name its root: lessor config set pool.root_certificate FILE"
            }
            Self::NoPool => "check [pool] url, or create the pool: lessor pool init",
            Self::PoolExists => "join it with a token of one of its admins: lessor pool join --token-stdin",
            Self::SchemaNewer => "install the newer version of lessor on this host too",
            Self::SchemaOlder => {
                "upgrade the pool once, with the role that owns it: lessor pool init --upgrade URL --password-file FILE"
            }
            Self::Unsafe => "set synchronous_commit = on for this database, then: lessor pool status",
            Self::NotMember => {
                "ask an admin of the pool for a token (lessor pool join-token) and give it to: lessor pool join --token-stdin"
            }
            Self::Evicted => {
                "to join again: an admin runs lessor pool join-token, then lessor pool join --token-stdin here"
            }
            Self::NotPermitted => "do it on a host that is an admin of the pool: lessor pool hosts",
            Self::NotOwner => {
                "let a superuser of the server run the SQL in docs/many-machines.md, then: lessor pool init"
            }
            Self::TermOver => "lessor begins a new term; if it lasts: lessor pool status",
            Self::KeysReplaced => "lessor fetches the new keys; if it lasts: lessor pool status",
            Self::NotFound => "see what the pool has: lessor pool status",
            Self::Conflict => "choose another name, or remove the other one first: lessor account list",
            Self::Refused => "see the server's log, then: lessor pool status",
            Self::BadAnswer => "use the same version of lessor on all hosts: lessor pool hosts",
        }
    }
}

impl fmt::Display for SharedPoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message(), self.kind.remedy())
    }
}

impl std::error::Error for SharedPoolError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_kinds_that_callers_decide_by() {
        let rows = [
            ("LE001", SharedPoolErrorKind::NotMember),
            ("LE002", SharedPoolErrorKind::Evicted),
            ("LE005", SharedPoolErrorKind::KeysReplaced),
            ("42501", SharedPoolErrorKind::NotPermitted),
            ("28P01", SharedPoolErrorKind::Auth),
            ("3F000", SharedPoolErrorKind::NoPool),
            ("08006", SharedPoolErrorKind::Unreachable),
            ("53300", SharedPoolErrorKind::Unreachable),
            ("57P01", SharedPoolErrorKind::Unreachable),
            ("55000", SharedPoolErrorKind::Unreachable),
            ("22P02", SharedPoolErrorKind::Refused),
        ];
        for (code, kind) in rows {
            assert_eq!(kind_of(&SqlState::from_code(code)), kind, "{code}");
        }
    }

    #[test]
    fn a_message_names_what_where_and_a_command() {
        let error = SharedPoolError::new(SharedPoolErrorKind::NoPool, "db.example:5432/lessor", "it has no pool");
        let said = error.to_string();
        for part in ["db.example:5432/lessor", "it has no pool", "lessor pool init"] {
            assert!(said.contains(part), "{said}");
        }
    }
}
