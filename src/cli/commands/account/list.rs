//! `account list` and `account show`.

use std::path::Path;

use super::AccountDetails;
use crate::cli::ui::{Column, Output, Table, Tint, account, format};
use crate::cli::{context::Context, error::CliError, launch::agent::provider_name};
use crate::credential::LoginHome;
use crate::protocol::{AccountInfo, ErrorKind, LinkInfo, ListAccountsParams};
use crate::provider::terms;

/// The width of the names in `account show`.
const NAMES: usize = 16;

pub(super) fn list(provider: Option<&str>, context: &Context) -> Result<(), CliError> {
    let request = ListAccountsParams { provider: provider.map(provider_name) };
    let accounts = context.ask(|client| client.accounts(request.clone()))?;
    context.output.result(&accounts, || match &request.provider {
        Some(provider) if accounts.is_empty() => format!("no accounts of {provider}\n"),
        _ => table(&accounts, format::now(), &context.output),
    })
}

fn table(accounts: &[AccountInfo], now: u64, output: &Output) -> String {
    if accounts.is_empty() {
        return account::none(output);
    }
    let mut table = Table::new(&[
        Column::name("ACCOUNT"),
        Column::name("EMAIL").left_out(3),
        Column::flexible("PROVIDER", 9).left_out(1),
        Column::fixed("KIND").left_out(2),
        Column::fixed("OF").left_out(4),
        Column::fixed("STATE"),
        Column::flexible("USE", 6).left_out(5),
        Column::fixed("LAST USED").left_out(6),
        Column::fixed("ID").left_out(7),
    ]);
    for info in accounts {
        let email = info.email.clone().filter(|_| info.label.is_some());
        table.row(vec![
            (account::name(info).to_owned(), Some(Tint::Strong)),
            (email.unwrap_or_default(), None),
            (info.provider.clone(), None),
            (kind(info), None),
            (account::sharing(info).to_owned(), Some(Tint::Faint)),
            (account::state(info), Some(account::tint(&info.state))),
            (info.allowed_agents.join(","), None),
            (format::last(now, info.last_used_at), Some(Tint::Faint)),
            (info.id.clone(), Some(Tint::Faint)),
        ]);
        account::state_details(info).iter().for_each(|line| table.detail(0, line));
    }
    let remedies = account::remedies(accounts, output);
    let gap = if remedies.is_empty() { "" } else { "\n" };
    table.render(output) + gap + &remedies
}

/// How it authenticates, and whether that was ever tried.
fn kind(info: &AccountInfo) -> String {
    let kind = if info.resource.is_some() { "login, direct" } else { account::kind(info.kind) };
    if info.unchecked { format!("{kind}, unchecked") } else { kind.to_owned() }
}

pub(super) fn show(name: &str, context: &Context) -> Result<(), CliError> {
    let info = find(name, context)?;
    context.output.result(&AccountDetails::of(&info), || {
        let fields = fields(&info, format::now());
        fields.iter().map(|(name, value)| context.output.field(name, NAMES, value)).collect()
    })
}

/// The account that a text names: its label, email address or id, else the beginning of its id.
pub(super) fn find(name: &str, context: &Context) -> Result<AccountInfo, CliError> {
    let accounts = context.ask(|client| client.accounts(ListAccountsParams::default()))?;
    let is_named = |info: &AccountInfo| {
        info.id == name || info.label.as_deref() == Some(name) || info.email.as_deref() == Some(name)
    };
    let begins = |info: &AccountInfo| {
        let letters = name.strip_prefix("ac_").unwrap_or(name);
        !letters.is_empty() && info.id.strip_prefix("ac_").is_some_and(|id| id.starts_with(letters))
    };
    let unknown = |message: String| CliError::new(ErrorKind::UnknownAccount, message).hint("see: lessor account list");
    let mut found: Vec<AccountInfo> = accounts.iter().filter(|info| is_named(info)).cloned().collect();
    if found.is_empty() {
        found = accounts.into_iter().filter(begins).collect();
    }
    let several = found.len() > 1;
    match found.pop() {
        Some(_) if several => Err(unknown(format!("{name:?} names several accounts"))),
        Some(info) => Ok(info),
        None => Err(unknown(format!("there is no account {name:?}"))),
    }
}

fn fields(info: &AccountInfo, now: u64) -> Vec<(&str, String)> {
    let mut fields: Vec<(&str, String)> = vec![("id", info.id.clone()), ("provider", info.provider.clone())];
    let mut maybe = |name, value: &Option<String>| fields.extend(value.clone().map(|value| (name, value)));
    maybe("label", &info.label);
    maybe("email", &info.email);
    maybe("account_id", &info.account_id);
    maybe("person", &info.person_id.clone().filter(|id| info.account_id.as_ref() != Some(id)));
    maybe("organization", &info.organization);
    maybe("organization_id", &info.organization_id.clone().filter(|id| info.account_id.as_ref() != Some(id)));
    maybe("project_id", &info.project_id);
    fields.push(("tier", account::tier(info.tier).to_owned()));
    fields.push(("kind", account::kind(info.kind).to_owned()));
    fields.extend(info.resource.as_ref().map(|resource| ("plan", format!("ChatGPT plan, direct: {resource}"))));
    fields.extend(info.client_id.clone().filter(|_| info.resource.is_some()).map(|id| ("client_id", id)));
    let why = info.state_reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    fields.push(("state", format!("{}{why}", account::state(info))));
    fields.extend(info.remedy.clone().map(|remedy| ("remedy", remedy)));
    if info.unchecked && info.state == "ready" {
        let name = account::reference(info);
        fields.push(("unchecked", format!("its credential was never used; to try it: lessor account check {name}")));
    }
    fields.extend(info.state_link.clone().filter(|link| !why.contains(link.as_str())).map(|link| ("open", link)));
    fields.push(("leases", format!("{} of {}", info.leases, info.capacity)));
    fields.extend(account::elsewhere(info).map(|held| ("seats", held)));
    let of = account::sharing(info);
    fields.extend((!of.is_empty()).then(|| ("account of", of.to_owned())));
    fields.push(("priority", info.priority.to_string()));
    let percent = format!("{:.0} % of its windows, for requests that name it", info.reserve * 100.0);
    fields.extend((info.reserve > 0.0).then_some(("reserve", percent)));
    let fallback = "serves only while no other account can".to_owned();
    fields.extend(info.fallback_only.then_some(("fallback", fallback)));
    fields.push(("use", info.allowed_agents.join(", ")));
    fields.extend(terms(&info.provider, info.kind, &info.allowed_agents).map(|sentence| ("terms", sentence)));
    fields.extend(info.credential_expires_at.map(|at| ("token ends", format::clock_and_span(now, at))));
    fields.extend(info.link.as_ref().map(|link| ("kept in", link_text(link))));
    for limit in &info.limits {
        fields.push(("limit", account::limit(limit, now)));
        let link = limit.link.iter().filter(|link| !limit.evidence.iter().any(|words| words.contains(link.as_str())));
        fields.extend(limit.evidence.iter().chain(link).map(|text| ("", text.clone())));
    }
    for window in &info.usage {
        let name = if window.rate { "rate" } else { "quota" };
        let of =
            if window.key.is_empty() { String::new() } else { format!(" of {}", account::quota_name(&window.key)) };
        let (used, reset) = (account::percent(window.utilization), account::reset(window, now));
        let as_of = format::ago(now, window.as_of);
        fields.push((name, format!("{}{of}: {used} used{reset} (read {as_of})", window.window)));
    }
    fields.extend(account::reading_note(info, now).map(|note| ("", note)));
    fields.extend(account::banked_resets_with_command(info, now).map(|resets| ("limit resets", resets)));
    fields.push(("added", format::ago(now, info.created_at)));
    fields.push(("last used", format::last(now, info.last_used_at)));
    fields
}

/// Where another tool keeps the login, and which program refreshes it.
fn link_text(link: &LinkInfo) -> String {
    let tool = &link.tool;
    let refreshed_by = match link.mode.as_str() {
        "link" => format!("refreshed by {tool}; lessor reads the file"),
        "share" | "take-over" if LoginHome::program_of(Path::new(&link.path)).is_some() => {
            "refreshed by lessor, in a directory of its own".to_owned()
        }
        "share" => format!("refreshed by {tool} and lessor, with the locks of {tool}"),
        "start-tool" => format!("refreshed by {tool}, which lessor starts there"),
        _ => format!("taken over: refreshed by lessor, not by {tool}"),
    };
    let trouble = link.trouble.as_ref().map(|why| format!("; it cannot be read: {why}")).unwrap_or_default();
    format!("{} ({refreshed_by}){trouble}", link.path)
}
