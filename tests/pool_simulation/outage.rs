//! A provider that refuses every account for a moment: agents in virtual time, as the gateway drives the pool for them.

use std::time::Duration;

use lessor::limits::Reason;
use lessor::pool::{
    AccountId, AccountRecord, Action, Command, ConnectionId, CredentialKind, DenialsEnd, Effect, Fence, LeaseRequest,
    LoginState, Mono, Now, Pool, PoolSettings, Process, RefusalDetails, Reply, RequestOutcome, WaiterId, Wall,
};

use crate::world::{account, target};

const STEP: Duration = Duration::from_millis(50);
const ACCOUNTS: u64 = 5;
const AGENTS: u64 = 8;
/// How long a request of an agent takes, and a refusal.
const SERVICE: u64 = 1_500;
const REFUSAL: u64 = 100;

enum Agent {
    /// Works without the provider until then.
    Thinks(Mono),
    Waits(WaiterId),
    /// Its request is answered then.
    Sent(Fence, Mono),
    /// Sends its request again then.
    Pauses(Fence, Mono),
}

struct Outage {
    pool: Pool,
    now: Now,
    agents: Vec<Agent>,
    reason: Reason,
    /// Accounts whose token is being refreshed, and those where that was done.
    to_refresh: Vec<AccountId>,
    refreshed: Vec<AccountId>,
    began: Mono,
    ends: Mono,
    refused: u64,
    served: u64,
}

impl Outage {
    /// Keys and logins in turn; the first requests are under way when the outage begins.
    fn new(reason: Reason, length: Duration) -> Self {
        let now = Now { mono: Mono(5_000_000), wall: Wall(1_800_000_000_000) };
        let mut pool = Pool::new(PoolSettings::default());
        for n in 0..ACCOUNTS {
            let kind = if n % 2 == 0 { CredentialKind::ApiKey } else { CredentialKind::Oauth };
            let record = AccountRecord { kind, ..account(n) };
            pool.handle(now, Command::AddAccount(Box::new(record)), &mut vec![]).unwrap();
        }
        let agents = (0..AGENTS).map(|n| Agent::Thinks(now.mono.after(Duration::from_millis(37 * n)))).collect();
        let began = now.mono.after(Duration::from_secs(3));
        let ends = began.after(length);
        Self { pool, now, agents, reason, to_refresh: vec![], refreshed: vec![], began, ends, refused: 0, served: 0 }
    }

    fn is_out(&self) -> bool {
        self.began <= self.now.mono && self.now.mono < self.ends
    }

    fn handle(&mut self, command: Command) -> Option<Reply> {
        let mut effects = Vec::new();
        let reply = self.pool.handle(self.now, command, &mut effects);
        self.pool.check(self.now).unwrap();
        for effect in effects {
            match effect {
                Effect::Answer { waiter, result } => {
                    let place = self.agents.iter().position(|agent| matches!(agent, Agent::Waits(id) if *id == waiter));
                    let place = place.expect("it waits");
                    self.agents[place] = match result {
                        Ok(fence) => self.sends(fence),
                        Err(refusal) => panic!("an agent is lost: {refusal:?}"),
                    };
                }
                // the token endpoint works: it is the API that refuses
                Effect::RefreshToken(id) => {
                    assert!(!self.refreshed.contains(&id), "{id} is refreshed once");
                    if !self.to_refresh.contains(&id) {
                        self.to_refresh.push(id);
                    }
                }
                _ => {}
            }
        }
        reply.ok()
    }

    fn sends(&self, fence: Fence) -> Agent {
        let takes = if self.is_out() { REFUSAL } else { SERVICE };
        Agent::Sent(fence, self.now.mono.after(Duration::from_millis(takes)))
    }

    fn step(&mut self) {
        self.now = Now { mono: self.now.mono.after(STEP), wall: self.now.wall.after(STEP) };
        self.handle(Command::Tick);
        for id in std::mem::take(&mut self.to_refresh) {
            self.handle(Command::ForgetDenials(id, DenialsEnd::Refreshed));
            self.handle(Command::SetRenewing(id, None));
            self.refreshed.push(id);
        }
        for n in 0..self.agents.len() {
            match self.agents[n] {
                Agent::Thinks(until) if until <= self.now.mono => self.acquire(n),
                Agent::Pauses(fence, until) if until <= self.now.mono => self.agents[n] = self.sends(fence),
                Agent::Sent(fence, at) if at <= self.now.mono => self.answered(n, fence, at),
                Agent::Thinks(_) | Agent::Pauses(..) | Agent::Sent(..) | Agent::Waits(_) => {}
            }
        }
    }

    fn acquire(&mut self, n: usize) {
        let connection = ConnectionId(n as u64);
        let mut ask = LeaseRequest { target: target(), ..LeaseRequest::new("p", "f", connection) };
        ask.session = Some(n.to_string().into());
        ask.holder.process = Some(Process { pid: n as u32 + 1, start: 1 });
        self.agents[n] = match self.handle(Command::Acquire(Box::new(ask))) {
            Some(Reply::Held(fence)) => self.sends(fence),
            Some(Reply::Queued(waiter)) => Agent::Waits(waiter),
            other => panic!("an agent is lost: {other:?}"),
        };
    }

    fn answered(&mut self, n: usize, fence: Fence, at: Mono) {
        let is_login = self.pool.lease(fence).is_some_and(|lease| {
            self.pool.account(lease.account).is_some_and(|of| of.record.kind == CredentialKind::Oauth)
        });
        if !(self.began..self.ends).contains(&at) {
            self.served += 1;
            self.handle(Command::Report { fence, outcome: RequestOutcome::Ok });
            self.handle(Command::Release(fence));
            self.agents[n] = Agent::Thinks(self.now.mono.after(Duration::from_millis(300)));
            return;
        }
        self.refused += 1;
        let details = RefusalDetails { renewable: is_login, ..RefusalDetails::reported(self.reason, None) };
        let outcome = RequestOutcome::Refused(Box::new(details));
        let Some(Reply::Decision(decision)) = self.handle(Command::Report { fence, outcome }) else { panic!() };
        self.agents[n] = match (decision.action, decision.lease) {
            (Action::Switch, Some(moved)) => self.sends(moved),
            (Action::Retry, None) => Agent::Pauses(fence, self.now.mono.after(decision.after)),
            (Action::Wait, None) => {
                self.handle(Command::Release(fence));
                Agent::Thinks(self.now.mono.after(STEP))
            }
            other => panic!("an agent is lost: {other:?}"),
        };
    }

    fn all_ready(&self) -> bool {
        self.pool.accounts().iter().all(|account| {
            account.can_serve()
                && account.record.login_state == LoginState::Ready
                && account.limits().iter().all(|limit| limit.until.passed(self.now))
        })
    }
}

#[test]
fn after_six_seconds_of_refusals_every_account_is_ready_again_without_a_command() {
    for reason in [Reason::AuthFailed, Reason::Forbidden] {
        let mut outage = Outage::new(reason, Duration::from_secs(6));
        while outage.now.mono < outage.ends {
            outage.step();
        }
        let (refused, served) = (outage.refused, outage.served);
        assert!(refused >= ACCOUNTS, "{refused} refusals");
        assert!(refused <= 60, "{reason:?}: {refused} requests were sent to a provider that refuses everything");
        while !outage.all_ready() {
            outage.step();
            assert!(outage.now.mono.since(outage.ends) <= Duration::from_secs(15), "{reason:?}");
        }
        for _ in 0..100 {
            outage.step();
        }
        assert_eq!(outage.refused, refused, "{reason:?}");
        assert!(outage.served > served + AGENTS, "all work again");
        assert!(outage.all_ready());
    }
}

/// An outage of minutes: the waits grow, and a success still ends them.
#[test]
fn a_long_outage_is_probed_until_a_request_succeeds() {
    for reason in [Reason::AuthFailed, Reason::Forbidden] {
        let mut outage = Outage::new(reason, Duration::from_secs(100));
        while outage.now.mono < outage.ends {
            outage.step();
        }
        assert!(outage.refused <= 120, "{reason:?}: {} requests", outage.refused);
        let mut ready_after = Duration::ZERO;
        while !outage.all_ready() {
            outage.step();
            ready_after = outage.now.mono.since(outage.ends);
            assert!(ready_after <= Duration::from_secs(100), "{reason:?}: as long as it lasted at most");
        }
        for _ in 0..100 {
            outage.step();
        }
        assert!(outage.all_ready(), "{reason:?}: {ready_after:?}");
    }
}
