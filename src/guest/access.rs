//! Which calls a guest may make at its host.

use crate::protocol::Call;

/// Who answers a call of a guest's program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestAccess {
    /// The host: the guest's daemon passes it on.
    Host,
    /// The guest's own daemon. The host refuses it.
    Own,
    /// The host, from the guest's daemon itself; its programs cannot make it.
    Link,
}

/// Who answers a call of a guest's program. There is no default: a new call must be decided upon.
#[must_use]
pub fn guest_access(call: &Call) -> GuestAccess {
    match call {
        // leases, and what is needed to decide whether to ask for one; each restricted to what the guest may see
        Call::Acquire(_)
        | Call::Token(_)
        | Call::Renew(_)
        | Call::Release(_)
        | Call::Resume(_)
        | Call::Credential(_)
        | Call::Report(_)
        | Call::MoveLease(_)
        | Call::ListLeases(_)
        | Call::ListAccounts(_)
        | Call::Status(_)
        | Call::Forecast(_)
        | Call::Explain(_)
        | Call::Subscribe(_)
        | Call::QueryHistory(_)
        | Call::GatewayKey(_) => GuestAccess::Host,
        Call::GuestHolders(_) => GuestAccess::Link,
        // a greeting is answered by each daemon for itself
        Call::Hello(_)
        | Call::AddAccount(_)
        | Call::RemoveAccount(_)
        | Call::SetAccount(_)
        | Call::EnableAccount(_)
        | Call::DisableAccount(_)
        | Call::ClearLimits(_)
        | Call::RefreshAccount(_)
        | Call::AskUsage(_)
        | Call::VerifyAccount(_)
        | Call::CheckAccount(_)
        | Call::ResetLimits(_)
        | Call::ImportAccounts(_)
        | Call::ExportAccounts(_)
        | Call::GetConfig(_)
        | Call::ReloadConfig(_)
        | Call::Stop(_)
        | Call::Restart(_)
        | Call::Rekey(_)
        | Call::SetSecret(_)
        | Call::ListSecrets(_)
        | Call::RemoveSecret(_)
        | Call::GatewayKeys(_)
        | Call::RevokeGatewayKey(_)
        | Call::OpenPage(_)
        | Call::AgentSession(_)
        // the pool belongs to the host, and so does what its machine is in it; a guest's daemon has joined none
        | Call::InitPool(_)
        | Call::JoinPool(_)
        | Call::CreateJoinToken(_)
        | Call::ListPoolHosts(_)
        | Call::PoolStatus(_)
        | Call::EvictHost(_)
        | Call::RekeyPool(_)
        | Call::LeavePool(_)
        | Call::SetPool(_)
        | Call::MigrateAccounts(_) => GuestAccess::Own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::MessageDecoder;

    /// The calls that a guest's programs may make at the host. Before one is added, read `docs/guests.md`.
    const SERVED: [&str; 16] = [
        "lease.acquire",
        "lease.renew",
        "lease.release",
        "lease.resume",
        "lease.credential",
        "lease.report",
        "lease.list",
        "account.list",
        "status",
        "events.subscribe",
        "forecast",
        "explain",
        "gateway.key",
        "lease.token",
        "history.query",
        "lease.move",
    ];

    #[test]
    fn only_the_listed_calls_go_to_the_host() {
        let mut served = Vec::new();
        for method in Call::METHODS {
            let sample = format!("{}/tests/golden/call-{method}.json", env!("CARGO_MANIFEST_DIR"));
            let mut decoder = MessageDecoder::default();
            decoder.inbox().extend_from_slice(&std::fs::read(&sample).unwrap());
            let call = decoder.take().unwrap().unwrap().call.unwrap();
            assert_eq!(call.method(), *method, "{sample}");
            match guest_access(&call) {
                GuestAccess::Host => served.push(*method),
                GuestAccess::Link => assert_eq!(*method, "guest.holders"),
                GuestAccess::Own => {}
            }
        }
        assert_eq!(served, SERVED);
    }
}
