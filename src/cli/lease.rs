//! `acquire`, `release`, `renew`, `leases`: the socket's calls, for shell scripts.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::client::{Client, ClientError};
use crate::pool::millis;
use crate::protocol::{AcquireParams as Request, BindTo, HolderInfo, LeaseInfo, LeaseRef, LeaseRow};
use crate::provider;

use super::context::{self, Context};
use super::failure::Failure;
use super::output::{Output, Tint, clean};
use super::table::{Column, Table};
use super::{ancestor, waiting, words};

/// What the options of `acquire` and `run` have in common.
#[derive(Clone, Debug, Args)]
pub(super) struct Wanted {
    /// The model it is for
    #[arg(short, long)]
    pub(super) model: Option<String>,
    /// One of several quotas of an account (google: antigravity, gemini-cli)
    #[arg(long)]
    pub(super) pool: Option<String>,
    /// A conversation that wants to stay on one account
    #[arg(long)]
    pub(super) session: Option<String>,
    /// A name for people
    #[arg(long)]
    pub(super) label: Option<String>,
    /// This account and no other: an id, a prefix of it, an email or a label
    #[arg(long, value_name = "A")]
    pub(super) account: Option<String>,
    /// How long to wait for an account, 0s not at all [default: limits.max_rate_limit_wait]
    #[arg(long, value_name = "DUR", value_parser = super::duration)]
    pub(super) wait: Option<Duration>,
}

/// `acquire`
#[derive(Debug, Args)]
pub(super) struct Acquire {
    /// anthropic, openai, google, or one that the configuration names
    provider: String,
    #[command(flatten)]
    wanted: Wanted,
    /// Not this account; may be repeated
    #[arg(long, value_name = "A")]
    exclude: Vec<String>,
    /// From -10 to 10; higher is served first
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true,
          value_parser = clap::value_parser!(i8).range(-10..=10))]
    priority: i8,
    /// Bind the lease to its time alone, this long
    #[arg(long, value_name = "DUR", value_parser = super::duration)]
    ttl: Option<Duration>,
    /// The agent it is for: accounts may be kept for certain ones
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Alone on the account
    #[arg(long)]
    exclusive: bool,
    /// The same id gets the same answer for 60 s
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Bind the lease to this process, in scripts: $$ [default: the nearest program that called, or its shell]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
}

/// `release`, `renew`
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The lease: its id, or the beginning of it as `leases` shows it
    pub(super) lease: String,
    /// Only if it is the lease with this number
    #[arg(long, value_name = "N")]
    pub(super) fence: Option<u64>,
}

/// Leases an account.
pub(super) fn acquire(options: Acquire, context: &Context) -> Result<(), Failure> {
    let (bind, bound_to) = match (options.pid, options.ttl) {
        (Some(pid), _) => (BindTo::Pid(pid), format!("until process {pid} ends")),
        (None, Some(_)) => (BindTo::Ttl, String::new()),
        (None, None) => {
            let holder = ancestor::holder().map_err(Failure::usage)?;
            (BindTo::Pid(holder.pid), format!("until {} (process {}) ends", holder.name, holder.pid))
        }
    };
    let wanted = options.wanted;
    let request = Request {
        provider: canonical(&options.provider),
        model: wanted.model,
        pool: wanted.pool,
        session: wanted.session,
        label: wanted.label,
        account: wanted.account,
        exclude: options.exclude,
        priority: options.priority,
        wait_ms: wanted.wait.map(millis),
        ttl_ms: options.ttl.map(millis),
        bind,
        // people are not shown the secret
        credential: context.output.json,
        agent: options.agent,
        exclusive: options.exclusive,
        request_id: options.request_id,
    };
    let lease = waiting::acquire(&mut context.connect()?, request, context)?;
    context.output.result(&lease, || describe(&lease, &bound_to, context::now()))
}

/// The provider a word stands for; one that is not known here is the daemon's to judge.
pub(super) fn canonical(word: &str) -> String {
    provider::by_alias(word).map_or(word, |provider| provider.name).to_owned()
}

/// Gives a lease back.
pub(super) fn release(which: &Which, context: &Context) -> Result<(), Failure> {
    let mut client = context.connect()?;
    with_lease(&mut client, which, Client::release)?;
    context.output.result(&json!({}), || "released".to_owned())
}

/// Adds a lease's life to its time.
pub(super) fn renew(which: &Which, context: &Context) -> Result<(), Failure> {
    let mut client = context.connect()?;
    let lease = with_lease(&mut client, which, Client::renew)?;
    context.output.result(&lease, || match lease.expires_at {
        Some(at) => format!("renewed: ends {}", words::until(context::now(), at)),
        None => "this lease has no time of its own: it lives as long as its holder".to_owned(),
    })
}

/// Lists the leases.
pub(super) fn leases(context: &Context) -> Result<(), Failure> {
    let leases = context.ask(Client::leases)?;
    context.output.result(&leases, || {
        if leases.is_empty() {
            return "no leases are held now; take one: lessor run -- claude\n".to_owned();
        }
        table(&leases, context::now(), &context.output)
    })
}

/// Calls with the id as it was given; if the daemon did not make it, with the one lease whose id begins so.
pub(super) fn with_lease<T>(
    client: &mut Client,
    which: &Which,
    call: impl Fn(&mut Client, LeaseRef) -> Result<T, ClientError>,
) -> Result<T, Failure> {
    let reference = |lease: &str| LeaseRef { lease: lease.to_owned(), fence: which.fence };
    let refusal = match call(client, reference(&which.lease)) {
        Err(error) if error.kind() == Some("unknown_lease") => error,
        answered => return Ok(answered?),
    };
    let leases = client.leases()?;
    let beginning = which.lease.trim_end_matches('…');
    let mut found = leases.iter().filter(|row| beginning.len() >= SHORTEST && row.lease.starts_with(beginning));
    match (found.next(), found.next()) {
        (Some(row), None) => Ok(call(client, reference(&row.lease))?),
        (Some(_), Some(_)) => {
            Err(Failure::new("unknown_lease", format!("several leases begin with {beginning}"))
                .hint("see: lessor leases"))
        }
        (None, _) => Err(refusal.into()),
    }
}

/// A beginning of an id that may be given for it: the prefix and some letters.
const SHORTEST: usize = 6;
/// The account's part of an id, and some letters of the fence.
const SHOWN: usize = 14;

/// The leases, a line each.
pub(super) fn table(leases: &[LeaseRow], now: u64, output: &Output) -> String {
    let mut table = Table::new(&[
        Column::fixed("LEASE"),
        Column::flexible("ACCOUNT", 8),
        Column::flexible("FOR", 8),
        Column::flexible("HOLDER", 8),
        Column::fixed("SINCE"),
        Column::fixed("ENDS"),
    ]);
    let shown = shown_length(leases);
    for row in leases {
        let account = row.account.label.as_ref().unwrap_or(&row.account.id);
        let what = row.label.as_ref().or(row.session.as_ref()).or(row.model.as_ref()).unwrap_or(&row.provider);
        let holder = match (&row.holder, row.bind.as_str()) {
            // who asked for it may be long gone
            (_, "ttl") | (None, _) => String::new(),
            (Some(HolderInfo { pid, program: Some(program) }), _) => format!("{program} {pid}"),
            (Some(HolderInfo { pid, program: None }), _) => pid.to_string(),
        };
        table.row(vec![
            (row.lease.chars().take(shown).collect(), None),
            (account.clone(), Some(Tint::Strong)),
            (what.clone(), None),
            (holder, None),
            (words::ago(now, row.granted_at), Some(Tint::Faint)),
            (row.expires_at.map(|at| words::until(now, at)).unwrap_or_default(), None),
        ]);
    }
    table.render(output)
}

/// How much of the ids must be shown so that each can be told from the others.
fn shown_length(leases: &[LeaseRow]) -> usize {
    let common = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let mut ids: Vec<&str> = leases.iter().map(|row| row.lease.as_str()).collect();
    ids.sort_unstable();
    ids.windows(2).map(|pair| common(pair[0], pair[1]) + 1).max().unwrap_or(0).max(SHOWN)
}

/// The lease in words; `bound_to` says what else ends it.
pub(super) fn describe(lease: &LeaseInfo<'_>, bound_to: &str, now: u64) -> String {
    let account = &lease.account;
    let name = account.label.as_ref().or(account.email.as_ref()).unwrap_or(&account.id);
    let time = lease.expires_at.map(|at| format!("ends {}", words::until(now, at)));
    let life = [time.unwrap_or_default(), bound_to.to_owned()];
    let life: Vec<&str> = life.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    let shared = match lease.shared_with {
        0 => String::new(),
        others => format!(", shared with {others}"),
    };
    let lines = [
        format!("lease    {}", lease.lease),
        format!("account  {} ({}, {}{shared})", clean(name), account.id, clean(&lease.provider)),
        format!("life     {}", life.join(", ")),
    ];
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::AccountLabel;
    use clap::Parser;
    use unicode_width::UnicodeWidthStr;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        acquire: Acquire,
    }

    fn row(id: &str) -> LeaseRow {
        LeaseRow {
            lease: id.into(),
            fence: 1,
            account: AccountLabel { id: "ac_1a2b3c4d".into(), label: Some("work".into()) },
            provider: "anthropic".into(),
            model: Some("claude-sonnet-4-5".into()),
            pool: None,
            session: None,
            label: None,
            bind: "pid".into(),
            holder: Some(HolderInfo { pid: 42, program: Some("claude".into()) }),
            granted_at: 0,
            expires_at: Some(700_000),
        }
    }

    #[test]
    fn negative_priorities_are_numbers_not_options() {
        for (text, priority) in [("-5", -5), ("10", 10), ("-10", -10)] {
            let line = Line::try_parse_from(["x", "anthropic", "--priority", text]).unwrap();
            assert_eq!(line.acquire.priority, priority);
        }
        assert!(Line::try_parse_from(["x", "anthropic", "--priority", "-11"]).is_err());
        let line =
            Line::try_parse_from(["x", "anthropic", "--wait", "1h30m", "--exclude", "a", "--exclude", "b"]).unwrap();
        assert_eq!(line.acquire.wanted.wait, Some(Duration::from_secs(5400)));
        assert_eq!(line.acquire.exclude, ["a", "b"]);
        assert!(Line::try_parse_from(["x", "anthropic", "--wait", "5"]).is_err(), "a unit is needed");
    }

    #[test]
    fn the_table_shows_as_much_of_an_id_as_tells_it_apart() {
        let first = format!("ls_{}x{}", "0".repeat(20), "1".repeat(40));
        let second = format!("ls_{}y{}", "0".repeat(20), "2".repeat(40));
        assert_eq!(shown_length(&[row(&first)]), SHOWN);
        assert_eq!(shown_length(&[row(&first), row(&second)]), 24);
        let mut long = row(&first);
        long.label = Some("漢字".repeat(30));
        long.account.label = Some("l".repeat(100));
        let text = table(&[long, row(&second)], 60_000, &Output::plain(80));
        assert!(text.lines().all(|line| line.width() <= 80), "{text}");
        assert!(text.contains("in 11 min") && text.contains("claude"), "{text}");
    }

    #[test]
    fn words_for_vendors_become_their_providers() {
        assert_eq!(canonical("claude"), "anthropic");
        assert_eq!(canonical("my-llm"), "my-llm");
    }
}
