//! `forecast`: how many agents can start now, on which accounts, and when the next ones can.

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::launch::{agent::is_agent, agent::provider_name, no_account, working_directory};
use crate::cli::ui::{Column, Output, Table, Tint, account, clean, format};
use crate::cli::{context::Context, error::CliError};
use crate::client::{Client, ClientError};
use crate::protocol::{ErrorKind, ForecastInfo, ForecastParams, ListAccountsParams, OutlookInfo};
use crate::provider;

/// The exit code if no agent can start now.
const NONE_NOW: u8 = 4;

#[derive(Debug, Args)]
pub(crate) struct ForecastArgs {
    /// An agent (claude, codex, gemini, …) or a provider [default: every provider with accounts]
    #[arg(value_name = "AGENT-OR-PROVIDER")]
    pub(super) word: Option<String>,
    /// For requests to this model
    #[arg(short, long)]
    pub(super) model: Option<String>,
    /// How many agents are to start; says when so many can
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) count: Option<u32>,
    /// On these accounts only: ids, prefixes of them, email addresses or labels
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub(super) only: Vec<String>,
}

/// `forecast --json`
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ForecastReport {
    /// How many agents can start now, on all providers together.
    grantable: u32,
    /// Each provider.
    providers: Vec<ProviderForecast>,
}

/// The forecast of one provider.
#[derive(Debug, Serialize, JsonSchema)]
struct ProviderForecast {
    /// The provider.
    provider: String,
    /// The agent that it is for, whose accounts' `use` settings count; null where they are ignored.
    agent: Option<String>,
    #[serde(flatten)]
    forecast: ForecastInfo,
}

pub(super) fn execute(args: &ForecastArgs, context: &Context) -> Result<u8, CliError> {
    let report = report(args, context)?;
    context.output.result(&report, || text(&report, args.count, format::now(), &context.output))?;
    Ok(if report.grantable > 0 { 0 } else { NONE_NOW })
}

/// The forecast of each provider that is meant.
pub(super) fn report(args: &ForecastArgs, context: &Context) -> Result<ForecastReport, CliError> {
    let providers = context.ask(|client| read(client, args))?;
    if providers.iter().all(|one| one.forecast.accounts.is_empty()) {
        return Err(match providers.as_slice() {
            [one] => no_account(&one.provider),
            _ => CliError::new(ErrorKind::NoAccount, "there is no account").hint(account::HOW_TO_ADD_ONE),
        });
    }
    let grantable = providers.iter().fold(0, |sum: u32, one| sum.saturating_add(one.forecast.grantable));
    Ok(ForecastReport { grantable, providers })
}

fn read(client: &mut Client, args: &ForecastArgs) -> Result<Vec<ProviderForecast>, ClientError> {
    let word = args.word.as_deref();
    // an agent that works with any provider names none
    let named = word.map(provider_name).filter(|provider| !is_agent(provider));
    let providers = match &named {
        Some(provider) => vec![provider.clone()],
        None => {
            let accounts = client.accounts(ListAccountsParams::default())?;
            let mut providers: Vec<String> = accounts.into_iter().map(|account| account.provider).collect();
            providers.sort_unstable();
            providers.dedup();
            providers
        }
    };
    let mut found = Vec::new();
    for provider in providers {
        let vendors_own = || provider::by_alias(&provider).and_then(|known| known.agents.first().copied());
        let agent = word.filter(|word| is_agent(word)).or_else(vendors_own).map(str::to_owned);
        let params = ForecastParams {
            provider: provider.clone(),
            model: args.model.clone(),
            count: args.count,
            only: Some(args.only.clone()).filter(|only| !only.is_empty()),
            agent: agent.clone(),
            directory: working_directory(),
        };
        match client.forecast(params) {
            Ok(forecast) => found.push(ProviderForecast { provider, agent, forecast }),
            // an account of a provider that the configuration does not have any more
            Err(ClientError::Refused(error)) if named.is_none() && error.data.kind == ErrorKind::UnknownProvider => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn text(report: &ForecastReport, count: Option<u32>, now: u64, output: &Output) -> String {
    let with_accounts = report.providers.iter().filter(|one| !one.forecast.accounts.is_empty());
    let parts: Vec<String> = with_accounts.map(|one| provider_text(one, count, now, output)).collect();
    parts.join("\n")
}

fn provider_text(one: &ProviderForecast, count: Option<u32>, now: u64, output: &Output) -> String {
    let ForecastInfo { grantable, accounts, set, .. } = &one.forecast;
    let name = clean(one.agent.as_deref().unwrap_or(&one.provider));
    let tint = match (grantable, one.forecast.next_at) {
        (0, None) => Tint::Bad,
        (0, Some(_)) => Tint::Warn,
        _ => Tint::Good,
    };
    let name = output.tint(tint, &name);
    let set = set.as_deref().map(clean);
    let is_out = |account: &OutlookInfo| account.why.as_deref() == Some(format::NOT_IN_SET);
    if let Some(set) = set.as_ref().filter(|_| accounts.iter().all(is_out)) {
        return output.prose(&format!("{name}: no agent can start, because the set has no account of it: {set}\n"));
    }
    let set = set.map(|set| format!("; only {set}")).unwrap_or_default();
    let mut text = output.prose(&format!("{name}: {}{set}\n", answer(&one.forecast, count, now)));
    let mut table = Table::new(&[Column::name("ACCOUNT"), Column::number("NOW"), Column::flexible("STATE", 14)]);
    for account in accounts.iter().filter(|account| !is_out(account)) {
        let tint = if account.room > 0 { Tint::Strong } else { Tint::Faint };
        table.row(vec![
            (account.label.clone().unwrap_or_else(|| account.id.clone()), Some(tint)),
            (account.room.to_string(), None),
            (state(account, now), account.why.as_ref().map(|_| Tint::Warn)),
        ]);
    }
    text += &table.render(output);
    text
}

/// `3 agents can start now`, and when more can.
fn answer(forecast: &ForecastInfo, count: Option<u32>, now: u64) -> String {
    let ForecastInfo { grantable, unshared, next_at, .. } = *forecast;
    let at = next_at.map(|at| format::clock_and_span(now, at));
    match (grantable, count) {
        (can, Some(wanted)) if can < wanted && wanted > 1 => {
            let when = match at {
                Some(at) => format!("all {wanted} can at {at}"),
                None => "it is not known when".to_owned(),
            };
            let can = if can == 0 { "none".to_owned() } else { can.to_string() };
            format!("{can} of {wanted} agents can start now; {when}")
        }
        (0, _) => match at {
            Some(at) => format!("no agent can start now; the first can at {at}"),
            None => "no agent can start now, and it is not known when".to_owned(),
        },
        (can, _) => {
            let agents = format::count(usize::try_from(can).unwrap_or(usize::MAX), "agent");
            let shared = match unshared {
                own if own == can => String::new(),
                0 => ", sharing an account with others".to_owned(),
                own => format!(", {own} without sharing an account"),
            };
            format!("{agents} can start now{shared}")
        }
    }
}

fn state(account: &OutlookInfo, now: u64) -> String {
    let Some(why) = &account.why else { return String::new() };
    let until = account.until.map(|until| format!(" {}", format::until_clock(now, until))).unwrap_or_default();
    format!("{}{until}", format::obstacle(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000_000;

    fn account(label: &str, room: u32, why: Option<&str>, until: Option<u64>) -> OutlookInfo {
        let id = format!("ac_{label}");
        OutlookInfo { id, label: Some(label.into()), room, why: why.map(str::to_owned), until }
    }

    fn forecast(grantable: u32, unshared: u32, next_at: Option<u64>) -> ForecastInfo {
        let accounts = vec![account("work", grantable, None, None)];
        ForecastInfo { grantable, unshared, next_at, accounts, set: None }
    }

    #[test]
    fn the_answer_says_how_many_and_when_more() {
        let soon = Some(NOW + 720_000);
        let at = format::clock_and_span(NOW, NOW + 720_000);
        for (found, count, expected) in [
            (forecast(3, 3, None), None, "3 agents can start now".to_owned()),
            (forecast(1, 1, soon), None, "1 agent can start now".to_owned()),
            (forecast(16, 1, None), None, "16 agents can start now, 1 without sharing an account".to_owned()),
            (forecast(5, 0, None), Some(5), "5 agents can start now, sharing an account with others".to_owned()),
            (forecast(0, 0, soon), None, format!("no agent can start now; the first can at {at}")),
            (forecast(0, 0, None), None, "no agent can start now, and it is not known when".to_owned()),
            (forecast(2, 2, soon), Some(5), format!("2 of 5 agents can start now; all 5 can at {at}")),
            (forecast(0, 0, soon), Some(1), format!("no agent can start now; the first can at {at}")),
            (forecast(0, 0, None), Some(2), "none of 2 agents can start now; it is not known when".to_owned()),
            (forecast(2, 2, None), Some(5), "2 of 5 agents can start now; it is not known when".to_owned()),
        ] {
            assert_eq!(answer(&found, count, NOW), expected);
        }
    }

    #[test]
    fn a_provider_without_an_account_in_the_set_says_so() {
        let accounts = vec![account("other", 0, Some("not_in_set"), None)];
        let forecast = ForecastInfo { accounts, set: Some("work (only)".into()), ..forecast(0, 0, None) };
        let one = ProviderForecast { provider: "openai".into(), agent: Some("codex".into()), forecast };
        let text = provider_text(&one, None, NOW, &Output::plain(80));
        assert_eq!(text, "codex: no agent can start, because the set has no account of it: work (only)\n");
    }

    #[test]
    fn accounts_are_listed_below_their_provider() {
        let until = NOW + 720_000;
        let accounts = vec![
            account("work", 2, None, None),
            account("spare", 0, Some("limited"), Some(until)),
            account("other", 0, Some("not_in_set"), None),
        ];
        let set = Some("work, spare (only)".to_owned());
        let forecast = ForecastInfo { grantable: 2, unshared: 1, next_at: Some(until), accounts, set };
        let one = ProviderForecast { provider: "anthropic".into(), agent: Some("claude".into()), forecast };
        let report = ForecastReport { grantable: 2, providers: vec![one] };
        let until = format::until_clock(NOW, until);
        assert_eq!(
            text(&report, None, NOW, &Output::plain(80)),
            format!(
                "claude: 2 agents can start now, 1 without sharing an account; only work, spare\n  (only)\n\
                 ACCOUNT  NOW  STATE\n\
                 work       2\n\
                 spare      0  limited {until}\n"
            )
        );
    }
}
