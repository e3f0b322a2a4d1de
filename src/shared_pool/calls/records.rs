//! Values of the pool as the database has them: numbers, names and JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::limits::{Reason, Scope};
use crate::pool::{AccountRecord, LimitRecord, LimitSource, LoginState, Overflow, Wall, millis};
use crate::shared_pool::ids::{account_id, sql_id};

/// Milliseconds as a `bigint`, saturating.
pub(super) fn small_millis(duration: Duration) -> i64 {
    i64::try_from(millis(duration)).unwrap_or(i64::MAX)
}

/// A time as a `bigint`, saturating.
pub(super) fn sql_time(at: Wall) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

/// The name of an overflow, as in the configuration.
pub(super) fn overflow_name(overflow: Overflow) -> &'static str {
    match overflow {
        Overflow::Share => "share",
        Overflow::Wait => "wait",
        Overflow::Fail => "fail",
    }
}

/// A record without what has columns of its own or belongs to one host.
pub(super) fn record_json(record: &AccountRecord) -> serde_json::Result<String> {
    let mut json = serde_json::to_value(record)?;
    if let Value::Object(fields) = &mut json {
        fields.remove("login_state");
        fields.insert("last_used_at".to_owned(), Value::Null);
    }
    serde_json::to_string(&json)
}

/// The record of a row and its login state.
pub(super) fn record_of(mut record: Value, login_state: LoginState) -> serde_json::Result<AccountRecord> {
    if let Value::Object(fields) = &mut record {
        fields.insert("login_state".to_owned(), serde_json::to_value(LoginState::Ready)?);
    }
    let mut record: AccountRecord = serde_json::from_value(record)?;
    record.login_state = login_state;
    Ok(record)
}

/// A limit as JSON, both ways. Names that this version does not know are refused.
#[derive(Serialize, Deserialize)]
pub(super) struct LimitRow {
    account: i64,
    scope: Scope,
    key: String,
    reason: Reason,
    until: u64,
    source: String,
    since: Option<u64>,
    evidence: Option<String>,
    link: Option<String>,
}

impl From<&LimitRecord> for LimitRow {
    fn from(limit: &LimitRecord) -> Self {
        Self {
            account: sql_id(limit.account),
            scope: limit.scope,
            key: limit.key.clone(),
            reason: limit.reason,
            until: limit.until.0.min(i64::MAX.cast_unsigned()),
            source: limit.source.name().to_owned(),
            since: limit.since.map(|since| since.0.min(i64::MAX.cast_unsigned())),
            evidence: limit.evidence.as_deref().map(str::to_owned),
            link: limit.link.as_deref().map(str::to_owned),
        }
    }
}

impl LimitRow {
    /// The limit, if its source is one that this version knows.
    pub(super) fn record(self) -> Option<LimitRecord> {
        let sources = [LimitSource::Table, LimitSource::Report, LimitSource::Server];
        Some(LimitRecord {
            account: account_id(self.account),
            key: self.key,
            scope: self.scope,
            reason: self.reason,
            until: Wall(self.until),
            source: sources.into_iter().find(|source| source.name() == self.source)?,
            since: self.since.map(Wall),
            evidence: self.evidence.map(String::into_boxed_str),
            link: self.link.map(String::into_boxed_str),
        })
    }
}

/// Limits as a JSON array.
pub(super) fn limits_json(limits: &[LimitRecord]) -> serde_json::Result<String> {
    serde_json::to_string(&limits.iter().map(LimitRow::from).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{AccountId, CredentialKind, LoginProblem};

    #[test]
    fn a_record_keeps_its_login_state_outside() {
        let id = AccountId::from_bits(77);
        let mut record = AccountRecord::new(id, "anthropic", CredentialKind::Oauth, Wall(5));
        record.login_state = LoginState::NeedsLogin(LoginProblem::AccessTokenEnded);
        record.last_used_at = Some(Wall(9));
        let json = record_json(&record).unwrap();
        assert!(!json.contains("login_state"), "{json}");
        let read = record_of(serde_json::from_str(&json).unwrap(), record.login_state.clone()).unwrap();
        record.last_used_at = None;
        assert_eq!(read, record);
        assert_eq!(account_id(sql_id(id)), id);
    }

    #[test]
    fn a_limit_is_the_same_when_it_is_read_back() {
        let limit = LimitRecord {
            account: AccountId::from_bits(0xff_ffff_ffff),
            key: "claude:opus".to_owned(),
            scope: Scope::Model,
            reason: Reason::QuotaExhausted,
            until: Wall(1_900_000_000_000),
            source: LimitSource::Server,
            since: Some(Wall(3)),
            evidence: Some("429".into()),
            link: None,
        };
        let json = limits_json(std::slice::from_ref(&limit)).unwrap();
        let mut rows: Vec<LimitRow> = serde_json::from_str(&json).unwrap();
        assert_eq!(rows.pop().and_then(LimitRow::record), Some(limit));
    }
}
