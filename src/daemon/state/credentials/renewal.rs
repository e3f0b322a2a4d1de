//! Which side gets a login its next token, and with what.

use super::oauth_settings::client_of;
use crate::credential::import::Tool;
use crate::credential::oauth::{MissingSettings, OauthSettings};
use crate::credential::refresh::RefreshFault;
use crate::credential::share::can_be_shared;
use crate::credential::{Credential, Link, LinkMode, LoginProgram};
use crate::daemon::state::State;
use crate::pool::{AccountId, CredentialKind};
use crate::provider::logins_rotate;

/// How lessor gets a login its next token.
#[derive(Debug)]
pub(crate) enum Renewal {
    /// It asks the OAuth server.
    Oauth(Box<OauthSettings>),
    /// It starts the tool that made the login, in the login's home.
    StartTool(Link),
}

impl State {
    /// How lessor gets an account its next token, or which settings are missing for that; `None` where it does not.
    pub(crate) fn renewal(&self, id: AccountId) -> Option<Result<Renewal, MissingSettings>> {
        let provider = &self.pool.account(id)?.record.provider;
        let credential = self.credentials.get(id)?;
        let link = self.links.get(id);
        // a tool must not refresh what other hosts refresh, too
        let is_refreshed_by_pool = self.is_shared(id) && !self.keeps_refresh_here(id);
        if let Some(link) = link.filter(|link| link.mode == LinkMode::StartTool && !is_refreshed_by_pool) {
            let by_oauth = self.client_of_tool_login(provider, credential, link);
            let renewal = by_oauth
                .map_or_else(|| Renewal::StartTool(link.clone()), |settings| Renewal::Oauth(Box::new(settings)));
            return (credential.kind == CredentialKind::Oauth).then_some(Ok(renewal));
        }
        if let Some(link) = link.filter(|link| link.mode == LinkMode::Link) {
            // both can refresh a login that does not rotate
            let by_oauth = (!logins_rotate(provider)).then(|| self.client_of_tool_login(provider, credential, link));
            return by_oauth.flatten().map(|settings| Ok(Renewal::Oauth(Box::new(settings))));
        }
        let can_be_refreshed = if is_refreshed_by_pool {
            // the pool has its refresh token
            credential.kind == CredentialKind::Oauth && self.may_refresh_shared_logins() && self.pool_has_refresh(id)
        } else {
            is_refreshable(credential)
        };
        if !can_be_refreshed || link.is_some_and(|link| !is_ours_to_refresh(link)) {
            return None;
        }
        Some(self.oauth_settings(provider, credential).map(|settings| Renewal::Oauth(Box::new(settings))))
    }

    /// The program in whose home the account's login is, where lessor starts it to refresh the login.
    pub(crate) fn started_program(&self, id: AccountId) -> Option<LoginProgram> {
        let link = self.links.get(id).filter(|link| link.mode == LinkMode::StartTool)?;
        LoginProgram::of_tool(&link.tool)
    }

    /// Why the tool of an account's login cannot refresh it: what failed last, once it has failed for certain.
    pub(crate) fn tool_trouble(&self, id: AccountId) -> Option<RefreshFault> {
        let fault = self.logins.plan.last_failure(id)?.0.fault;
        matches!(fault, RefreshFault::Tool | RefreshFault::ToolWantsLogin).then_some(fault)
    }

    /// The configured client that made a login of a tool, so that lessor needs no tool for it. A default client may be
    /// another one, so it does not count.
    fn client_of_tool_login(&self, provider: &str, credential: &Credential, link: &Link) -> Option<OauthSettings> {
        let given = self.oauth_given(provider);
        let client = client_of(credential).or_else(|| given.client_of_tool(&link.tool).map(str::to_owned))?;
        credential.refresh.as_ref()?;
        OauthSettings::for_client(provider, given, Some(&client)).ok()
    }
}

/// Whether lessor gets a login its next token that another tool has, too: it was taken over, lessor can give it the new
/// one, or lessor starts the tool.
pub(crate) fn is_ours_to_refresh(link: &Link) -> bool {
    match link.mode {
        LinkMode::Link => false,
        LinkMode::TakeOver | LinkMode::StartTool => true,
        LinkMode::Share => Tool::named(&link.tool).is_some_and(|tool| can_be_shared(tool, &link.path)),
    }
}

pub(super) fn is_refreshable(credential: &Credential) -> bool {
    credential.kind == CredentialKind::Oauth && credential.refresh.is_some()
}
