//! `pool evict`: lock a host out, and list what it has read.

use clap::Args;

use super::init::are;
use crate::cli::ui::{Column, Output, Table, Tint, account, clean, format, prompt};
use crate::cli::{context::Context, error::CliError};
use crate::protocol::{EvictHostParams, EvictedHostInfo, ExposedSecretInfo};

#[derive(Debug, Args)]
pub(crate) struct PoolEvictArgs {
    /// The host: its name or id in `lessor pool hosts`
    #[arg(value_name = "HOST")]
    host: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Evict it also if no admin or no refresher is left
    #[arg(long)]
    force: bool,
}

pub(super) fn evict(args: PoolEvictArgs, context: &Context) -> Result<(), CliError> {
    let PoolEvictArgs { host, yes, force } = args;
    if !yes && !context.output.json && prompt::can_ask() {
        let question = format!("Leases on {} on shared accounts will end. Evict it? [y/N]", clean(&host));
        let answer = prompt::ask(&question, &context.output)?;
        if !matches!(answer.as_deref(), Some("y" | "yes")) {
            context.output.note("no host was evicted");
            return Ok(());
        }
    }
    let info = context.connect()?.evict_host(EvictHostParams { host, force })?;
    context.output.result(&info, || text(&info, format::now(), &context.output))
}

fn text(info: &EvictedHostInfo, now: u64, output: &Output) -> String {
    let name = clean(&info.host.name);
    let resealed = are(usize::try_from(info.resealed).unwrap_or(usize::MAX), "account");
    let keys = match &info.trouble {
        None => format!("{resealed} sealed with new keys (generation {})", info.key_generation),
        Some(why) => format!("the pool still has its old keys: {}", clean(why)),
    };
    let mut text = output.prose(&format!("evicted {name}: it can claim no seat and read nothing any more; {keys}\n"));
    let is_passing = |secret: &&ExposedSecretInfo| secret.secret == "access_token";
    let lasting: Vec<&ExposedSecretInfo> = info.replace.iter().filter(|one| !is_passing(one)).collect();
    let passing: Vec<&ExposedSecretInfo> = info.replace.iter().filter(is_passing).collect();
    if !lasting.is_empty() {
        let line = format!("{name} has read these. Revoke each at its provider, then store its replacement:\n");
        text = text + "\n" + &output.prose(&output.tint(Tint::Bad, &line)) + &table(&lasting, now, output);
    }
    if let Some(last) = passing.iter().filter_map(|secret| secret.ends_at).max() {
        let tokens = format::count(passing.len(), "access token");
        let line = format!(
            "{name} has also read {tokens}, which lessor cannot take back; the last one ends {}\n",
            format::clock_and_span(now, last)
        );
        text = text + "\n" + &output.prose(&line);
    }
    if info.replace.is_empty() {
        text += &output.prose(&format!("{name} has read no key, token or login: nothing has to be replaced\n"));
    }
    text
}

fn table(secrets: &[&ExposedSecretInfo], now: u64, output: &Output) -> String {
    let mut table = Table::new(&[
        Column::name("ACCOUNT"),
        Column::fixed("PROVIDER"),
        Column::fixed("WHAT"),
        Column::fixed("ENDS").left_out(1),
        Column::flexible("REPLACE IT WITH", 24).moved_below(2),
    ]);
    for secret in secrets {
        let what = match secret.secret.as_str() {
            "api_key" => "API key",
            "token" => "long-lived token",
            "login" => "login",
            other => other,
        };
        table.row(vec![
            (account::label(&secret.account).to_owned(), Some(Tint::Strong)),
            (secret.provider.clone(), None),
            (what.to_owned(), None),
            (secret.ends_at.map_or_else(|| "never".to_owned(), |at| format::clock_and_span(now, at)), None),
            (secret.command.clone().unwrap_or_default(), None),
        ]);
    }
    table.render(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{AccountLabel, PoolHostInfo};

    fn exposed(label: &str, secret: &str, ends_at: Option<u64>, command: Option<&str>) -> ExposedSecretInfo {
        ExposedSecretInfo {
            account: AccountLabel { id: "ac_1".into(), label: Some(label.into()), email: None },
            provider: "anthropic".into(),
            secret: secret.into(),
            ends_at,
            command: command.map(str::to_owned),
        }
    }

    #[test]
    fn what_the_host_has_read_is_listed_with_what_replaces_it() {
        let info = EvictedHostInfo {
            host: PoolHostInfo { name: "ci-2".into(), ..PoolHostInfo::default() },
            key_generation: 2,
            resealed: 3,
            trouble: None,
            replace: vec![
                exposed("work", "api_key", None, Some("lessor account set work --api-key-stdin")),
                exposed("home", "login", None, Some("lessor login claude")),
                exposed("spare", "access_token", Some(3_600_000), None),
            ],
        };
        assert_eq!(
            text(&info, 0, &Output::plain(120)),
            "evicted ci-2: it can claim no seat and read nothing any more; 3 accounts are sealed with new keys (generation 2)\n\
             \n\
             ci-2 has read these. Revoke each at its provider, then store its replacement:\n\
             ACCOUNT  PROVIDER   WHAT     ENDS   REPLACE IT WITH\n\
             work     anthropic  API key  never  lessor account set work --api-key-stdin\n\
             home     anthropic  login    never  lessor login claude\n\
             \n\
             ci-2 has also read 1 access token, which lessor cannot take back; the last one ends 01:00, in 60 min\n"
        );
        let harmless = EvictedHostInfo { replace: vec![], ..info };
        assert!(text(&harmless, 0, &Output::plain(120)).contains("nothing has to be replaced"));
    }
}
