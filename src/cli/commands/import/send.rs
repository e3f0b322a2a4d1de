//! Sends entries to the daemon: in as few calls as the size of a message allows, related entries in the same call.

use std::collections::HashMap;

use crate::cli::ui::progress::{self, Progress};
use crate::protocol::{
    ImportAccountsParams, ImportEntry, ImportLimit, ImportWindow, ImportedEntry, MAX_MESSAGE, SecretText,
};
use crate::{
    cli::error::CliError, client::Client, credential::LinkMode, credential::Secret,
    credential::import::DiscoveredAccount, pool::AccountOwner, pool::Window,
};

/// The size of the entries in one call, in bytes; the rest is for its frame.
const MAX_BATCH: usize = MAX_MESSAGE - 16 * 1024;

/// Sends the entries to the daemon, to be imported or only compared, for a shared pool or this host alone; answers what was done with each, in order.
pub(crate) fn send(
    client: &mut Client,
    entries: &[&DiscoveredAccount],
    mode: Option<LinkMode>,
    (dry_run, own): (bool, bool),
) -> Result<Vec<ImportedEntry>, CliError> {
    let mut answers: Vec<Option<ImportedEntry>> = entries.iter().map(|_| None).collect();
    let batches = batches(entries);
    // one call is done at once
    let progress = (batches.len() > 1).then(|| progress::bar(batches.len()));
    for batch in batches {
        let call = ImportAccountsParams {
            entries: batch.iter().map(|index| import_entry(entries[*index])).collect(),
            mode: mode.map(|mode| mode.name().to_owned()),
            dry_run,
            own,
        };
        let rows = client.import_accounts(call)?.entries;
        for (index, row) in batch.into_iter().zip(rows) {
            answers[index] = Some(row);
        }
        progress.iter().for_each(Progress::step);
    }
    drop(progress);
    let all: Option<Vec<ImportedEntry>> = answers.into_iter().collect();
    all.ok_or_else(|| CliError::internal("the daemon answered fewer entries than it was sent"))
}

/// The entries of each call. Entries that may be of one account go into the same call, where the daemon compares them.
fn batches(entries: &[&DiscoveredAccount]) -> Vec<Vec<usize>> {
    let mut batches: Vec<(usize, Vec<usize>)> = Vec::new();
    for group in groups(entries) {
        let size = group.iter().map(|index| size(entries[*index])).sum::<usize>();
        match batches.last_mut() {
            Some((used, batch)) if *used + size <= MAX_BATCH => {
                *used += size;
                batch.extend(group);
            }
            _ => batches.push((size, group)),
        }
    }
    let sorted = |(_, mut batch): (usize, Vec<usize>)| {
        batch.sort_unstable();
        batch
    };
    batches.into_iter().map(sorted).collect()
}

/// Groups of entries that share an email address, an id, a token or a label, directly or through other entries.
fn groups(entries: &[&DiscoveredAccount]) -> Vec<Vec<usize>> {
    let mut first: HashMap<String, usize> = HashMap::new();
    let mut leader: Vec<usize> = (0..entries.len()).collect();
    let find = |leader: &[usize], mut index: usize| {
        while leader[index] != index {
            index = leader[index];
        }
        index
    };
    for (index, entry) in entries.iter().enumerate() {
        let token = entry.credential.refresh.as_ref().unwrap_or(&entry.credential.access);
        let names = [
            entry.email.as_ref().map(|email| format!("email {}", email.to_ascii_lowercase())),
            entry.owner.person.as_ref().map(|id| format!("id {id}")),
            entry.owner.organization.as_ref().map(|id| format!("id {id}")),
            entry.label.as_ref().map(|label| format!("label {label}")),
            Some(format!("token {}", token.expose())),
        ];
        for name in names.into_iter().flatten() {
            let other = *first.entry(name).or_insert(index);
            let (one, other) = (find(&leader, index), find(&leader, other));
            leader[one.max(other)] = one.min(other);
        }
    }
    let mut groups: Vec<Vec<usize>> = vec![Vec::new(); entries.len()];
    for index in 0..entries.len() {
        groups[find(&leader, index)].push(index);
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// An upper bound of the size of an entry in a message, in bytes.
fn size(entry: &DiscoveredAccount) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len) + 8;
    let texts = [&entry.email, &entry.label, &entry.project_id, &entry.disabled, &entry.verification];
    let AccountOwner { person, organization, organization_name } = &entry.owner;
    let more = [&entry.login_ended, &entry.file, &entry.credential.client_id, person, organization, organization_name];
    let limits: usize = entry.limits.iter().map(|limit| limit.key.len() + 32).sum();
    let usage: usize = entry.usage.iter().map(|window| window.key.len() + window.name.len() + 64).sum();
    let refresh = entry.credential.refresh.as_ref().map_or(0, |refresh| refresh.expose().len());
    let allowed_agents: usize = entry.allowed_agents.iter().flatten().map(|name| name.len() + 8).sum();
    entry.credential.access.expose().len()
        + refresh
        + limits
        + usage
        + allowed_agents
        + texts.into_iter().chain(more).map(text).sum::<usize>()
        + entry.item.len()
        + entry.provider.len()
        + 128
}

fn import_entry(entry: &DiscoveredAccount) -> ImportEntry {
    let exposed = |secret: &Secret| SecretText(secret.expose().to_owned().into());
    let limit = |limit: &crate::credential::import::DiscoveredLimit| ImportLimit {
        scope: limit.scope,
        key: limit.key.clone(),
        reason: limit.reason,
        until: limit.until.0,
    };
    let window = |window: &Window| ImportWindow {
        window: window.name.clone(),
        key: window.key.clone(),
        utilization: window.utilization,
        resets_at: window.resets_at.map(|at| at.0),
        as_of: window.as_of.0,
    };
    ImportEntry {
        tool: entry.tool.name().to_owned(),
        item: entry.item.clone(),
        file: entry.file.clone(),
        rotates: entry.rotates,
        provider: entry.provider.clone(),
        kind: entry.credential.kind,
        secret: exposed(&entry.credential.access),
        refresh_token: entry.credential.refresh.as_ref().map(exposed),
        expires_at: entry.credential.expires_at.map(|at| at.0),
        email: entry.email.clone(),
        label: entry.label.clone(),
        account_id: None,
        project_id: entry.project_id.clone(),
        tier: Some(entry.tier),
        limits: entry.limits.iter().map(limit).collect(),
        usage: entry.usage.iter().map(window).collect(),
        last_used_at: entry.last_used_at.map(|at| at.0),
        disabled: entry.disabled.clone(),
        verification: entry.verification.clone(),
        login_ended: entry.login_ended.clone(),
        allowed_agents: entry.allowed_agents.clone(),
        max_leases: entry.max_leases,
        reserve: entry.reserve,
        fallback_only: entry.fallback_only,
        priority: entry.priority,
        as_of: entry.as_of.map(|at| at.0),
        mode: entry.mode.map(|mode| mode.name().to_owned()),
        client_id: entry.credential.client_id.clone(),
        resource: entry.credential.resource.clone(),
        refresh_from: entry.credential.refresh_from.map(|at| at.0),
        person_id: entry.owner.person.clone(),
        organization_id: entry.owner.organization.clone(),
        organization: entry.owner.organization_name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{credential::Credential, credential::import::Tool, pool::CredentialKind};

    fn entry(email: Option<&str>, token: &str) -> DiscoveredAccount {
        let access = Secret::new(token.to_owned());
        let credential = Credential::new(CredentialKind::Oauth, access);
        DiscoveredAccount {
            email: email.map(str::to_owned),
            ..DiscoveredAccount::new(Tool::Codex, "x".into(), "openai", credential)
        }
    }

    #[test]
    fn related_entries_are_sent_in_the_same_call() {
        let all = [entry(Some("a"), "1"), entry(None, "2"), entry(Some("b"), "3"), entry(Some("A"), "2")];
        assert_eq!(groups(&all.each_ref()), [vec![0, 1, 3], vec![2]]);
        let long = "t".repeat(60 * 1024);
        let all: Vec<DiscoveredAccount> = (0..6).map(|number| entry(None, &format!("{long}{number}"))).collect();
        let batches = batches(&all.iter().collect::<Vec<_>>());
        assert_eq!(batches, [vec![0, 1, 2], vec![3, 4, 5]]);
    }

    #[test]
    fn each_call_fits_into_a_message() {
        let all: Vec<DiscoveredAccount> =
            (0..1000).map(|number| entry(Some(&number.to_string()), &format!("{number:0300}"))).collect();
        let all: Vec<&DiscoveredAccount> = all.iter().collect();
        for batch in batches(&all) {
            let entries = batch.iter().map(|index| import_entry(all[*index])).collect();
            let call =
                crate::protocol::Call::ImportAccounts(Box::new(ImportAccountsParams { entries, ..Default::default() }));
            crate::protocol::encode_call(1, call, &mut Vec::new()).unwrap();
        }
    }
}
