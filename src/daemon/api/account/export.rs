//! `account.export`: all accounts, as a backup or for an import elsewhere.

use super::of_each_account;
use crate::credential::import::EXPORT_VERSION;
use crate::daemon::api::reply::{CallReply, CallResult};
use crate::daemon::state::{Daemon, State};
use crate::daemon::{api::session::exposed, log::login_words, os::clock, view};
use crate::pool::{Account, LoginProblem, LoginState, Now, Window};
use crate::protocol::{Answer, ExportInfo, ExportedAccount, ExportedCredential, ExportedLink, ExportedWindow};
use crate::provider::vendor_account_id;

/// `account.export`
pub fn export(daemon: &Daemon, reply: &mut CallReply<'_>, secrets: bool) -> CallResult {
    let exported_at = clock::now().wall.0;
    // the secrets of a shared pool are not this host's own, unless it is one of its admins
    let is_admin = daemon.many_hosts.membership().is_some_and(|membership| membership.admin);
    let accounts = of_each_account(daemon, |state, now, account| {
        let is_left_out = secrets && !is_admin && state.is_shared(account.record.id);
        (!is_left_out).then(|| exported(state, now, account, secrets))
    });
    reply.answer(&Answer::Exported(ExportInfo { lessor_export: EXPORT_VERSION, exported_at, accounts }))
}

fn exported(state: &State, now: Now, account: &Account, secrets: bool) -> ExportedAccount {
    let record = &account.record;
    let credential = state.credentials.get(record.id);
    let words = || login_words(record, now.wall, None);
    let (needs_login, needs_verification) = match &record.login_state {
        // the expiry of the token is exported, too
        LoginState::Ready | LoginState::NeedsLogin(LoginProblem::AccessTokenEnded) => (None, None),
        LoginState::NeedsLogin(_) => (words(), None),
        LoginState::NeedsVerification(_) => (None, words()),
    };
    let known_since = credential.and_then(|credential| {
        state.credentials.fingerprints.known_since(record.id, state.credentials.fingerprints.of(credential))
    });
    ExportedAccount {
        id: record.id.to_string(),
        provider: record.provider.clone(),
        kind: record.kind,
        label: record.label.clone(),
        email: record.email.clone(),
        account_id: vendor_account_id(&record.provider, &record.owner).map(str::to_owned),
        tier: record.tier,
        project_id: record.project_id.clone(),
        allowed_agents: record.allowed_agents.clone(),
        max_leases: record.max_leases,
        priority: record.priority,
        reserve: record.reserve,
        fallback_only: record.fallback_only,
        enabled: record.enabled,
        disabled_reason: record.disabled_reason.clone(),
        needs_login,
        needs_verification,
        limits: view::limits(account, now),
        usage: account.usage().windows.iter().map(window).collect(),
        last_used_at: record.last_used_at.map(|at| at.0),
        link: state.links.get(record.id).map(|link| ExportedLink {
            tool: link.tool.clone(),
            path: link.path.clone(),
            item: link.item.clone(),
            mode: link.mode.name().to_owned(),
        }),
        as_of: known_since.map(|at| at.0),
        credential: credential.filter(|_| secrets).map(|credential| ExportedCredential {
            access: exposed(&credential.access),
            refresh: credential.refresh.as_ref().map(exposed),
            expires_at: credential.expires_at.map(|at| at.0),
            client_id: credential.client_id.clone(),
            resource: credential.resource.clone(),
            refresh_from: credential.refresh_from.map(|at| at.0),
        }),
        person_id: record.owner.person.clone(),
        organization_id: record.owner.organization.clone(),
        organization: record.owner.organization_name.clone(),
    }
}

fn window(window: &Window) -> ExportedWindow {
    ExportedWindow {
        window: window.name.clone(),
        key: window.key.clone(),
        utilization: window.utilization,
        resets_at: window.resets_at.map(|at| at.0),
        as_of: window.as_of.0,
    }
}
