//! Whose login a client of the gateway uses, for a program that asks as it would ask the provider.

use super::{GatewayHandle, client::GatewayClient};
use crate::credential::claims::LoginClaims;
use crate::daemon::state::State;
use crate::pool::{Account, AccountId, CredentialKind};
use crate::provider::vendor_account_id;

/// What a login says of its account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoginOwner {
    /// The provider's own id of the account; lessor's, where the provider's is not known.
    pub account_id: String,
    /// The provider's id of the person, or the account's.
    pub person: String,
    /// The email address.
    pub email: Option<String>,
    /// The plan, as the provider names it.
    pub plan: Option<String>,
}

impl GatewayHandle {
    /// The login of the client's lease; for a client without a lease, the first one that its agent may use.
    #[must_use]
    pub fn login_owner(&self, client: &GatewayClient, provider: &str) -> Option<LoginOwner> {
        let state = &mut *self.state();
        let id = state.login_of_lease(client, provider).or_else(|| {
            let agent = client.agent.as_deref();
            let may_use = |account: &&Account| {
                account.record.provider == provider && account.record.enabled && account.allows(agent)
            };
            let mut accounts = state.pool.accounts().iter().filter(may_use).map(|account| account.record.id);
            accounts.find(|id| state.has_login(*id))
        })?;
        state.owner_of(id)
    }
}

impl State {
    /// The account of the client's lease, if it is a login at this provider.
    fn login_of_lease(&mut self, client: &GatewayClient, provider: &str) -> Option<AccountId> {
        let (fence, process) = client.lease?;
        let holder = self.key_holder(fence, process)?;
        let lease = self.key_holders.get(holder)?.lease_of(provider)?;
        self.pool.lease(lease).map(|lease| lease.account).filter(|id| self.has_login(*id))
    }

    fn has_login(&self, id: AccountId) -> bool {
        self.credentials.get(id).is_some_and(|credential| credential.api_kind() == CredentialKind::Oauth)
    }

    fn owner_of(&self, id: AccountId) -> Option<LoginOwner> {
        let record = &self.pool.account(id)?.record;
        let claims = LoginClaims::of(self.credentials.get(id)?.access.expose(), None);
        let account_id = vendor_account_id(&record.provider, &record.owner).map(str::to_owned);
        let account_id = account_id.or(claims.organisation).unwrap_or_else(|| id.to_string());
        let person = record.owner.person.clone().or(claims.person).unwrap_or_else(|| account_id.clone());
        Some(LoginOwner { account_id, person, email: record.email.clone().or(claims.email), plan: claims.plan })
    }
}
