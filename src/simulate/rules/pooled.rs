//! lessor: the pool itself, called as the daemon calls it for a gateway, with a lease for each request.

use crate::limits::{self, Headers, UpstreamResponse};
use crate::pool::{
    AccountId, AccountRecord, Action, Command, ConnectionId, CredentialKind, Effect, Fence, LeaseRequest, Mono, Now,
    Pool, PoolSettings, Process, Refusal, RefusalDetails, Reply, RequestOutcome, Strategy, Tier, Usage, WaiterId, Wall,
    Window, millis,
};
use crate::simulate::Load;
use crate::simulate::upstream::{Ms, QuotaKind, SECOND, SimulatedUpstream, UpstreamAnswer};
use crate::simulate::world::{AgentRequest, AgentStep, RoutingRules, Sent};
use rustc_hash::FxHashMap;
use std::time::Duration;

const PROVIDER: &str = "anthropic";
const FAMILY: &str = "claude";
const MODEL: &str = "claude-sonnet-4-5";
/// The clocks at the beginning.
const BOOT: u64 = 1_000_000;
const EPOCH: u64 = 1_800_000_000_000;

pub(crate) struct PoolRules {
    pool: Pool,
    ids: Vec<AccountId>,
    /// Each agent's lease.
    held: Vec<Option<Fence>>,
    waiting: FxHashMap<WaiterId, AgentRequest>,
    woken: Vec<(usize, AgentStep)>,
}

fn now_of(at: Ms) -> Now {
    Now { mono: Mono(BOOT + at), wall: Wall(EPOCH + at) }
}

fn record(n: usize) -> AccountRecord {
    let record = AccountRecord::new(AccountId::from_bits(n as u64), PROVIDER, CredentialKind::ApiKey, Wall(EPOCH));
    AccountRecord { tier: Tier::Pro, ..record }
}

fn ask(request: AgentRequest) -> LeaseRequest {
    let connection = ConnectionId(request.agent as u64);
    let mut ask = LeaseRequest::new(PROVIDER, FAMILY, connection);
    ask.target.model = Some(MODEL.into());
    ask.holder.process = Some(Process { pid: request.agent as u32 + 1, start: 1 });
    ask.session = Some(request.session.to_string().into());
    ask
}

/// What the refusal is understood as, by the code that reads real ones.
fn finding(now: Now, meter: QuotaKind, wait: Ms) -> RefusalDetails {
    let (claim, window) = match meter {
        QuotaKind::Minute => ("rate_limit_error", "per minute"),
        QuotaKind::FiveHours => ("usage_limit_error", "of five hours"),
    };
    let headers = Headers::telling([("retry-after", (wait / SECOND).to_string())]);
    let body = format!(r#"{{"type":"error","error":{{"type":"{claim}","message":"Your limit {window} is reached"}}}}"#);
    let reading = limits::classify(&UpstreamResponse {
        provider: PROVIDER,
        status: 429,
        headers: &headers,
        body: body.as_bytes(),
        now: now.wall.0,
    });
    match &reading.verdict {
        Some(verdict) => RefusalDetails::read(verdict),
        None => RefusalDetails::reported(limits::Reason::Unknown, Some(Duration::from_millis(wait))),
    }
}

impl PoolRules {
    pub(crate) fn new(load: &Load, strategy: Strategy) -> Self {
        let mut settings = PoolSettings::default();
        settings.selection.strategy = strategy;
        let mut pooled = Self {
            pool: Pool::new(settings),
            ids: Vec::new(),
            held: vec![None; load.agents],
            waiting: FxHashMap::default(),
            woken: Vec::new(),
        };
        for n in 0..load.accounts {
            let record = record(n);
            pooled.ids.push(record.id);
            let _added = pooled.handle(0, Command::AddAccount(Box::new(record)));
        }
        pooled
    }

    fn handle(&mut self, now: Ms, command: Command) -> Result<Reply, Refusal> {
        let mut effects = Vec::new();
        let reply = self.pool.handle(now_of(now), command, &mut effects);
        for effect in effects {
            if let Effect::Answer { waiter, result } = effect
                && let Some(request) = self.waiting.remove(&waiter)
            {
                let step = match result {
                    Ok(fence) => self.holds(request, fence),
                    Err(refusal) => turned_away(now, self.patience(), &refusal),
                };
                self.woken.push((request.agent, step));
            }
        }
        reply
    }

    fn holds(&mut self, request: AgentRequest, fence: Fence) -> AgentStep {
        self.held[request.agent] = Some(fence);
        let account = self.pool.lease(fence).map(|lease| lease.account);
        let Some(slot) = account.and_then(|id| self.ids.iter().position(|known| *known == id)) else {
            return AgentStep::GiveUp(None);
        };
        let probes = |account: &crate::pool::Account| account.limits().iter().any(|l| l.probe() == Some(fence));
        let probes = self.pool.account(self.ids[slot]).is_some_and(probes);
        if probes { AgentStep::Probe(slot) } else { AgentStep::Send(slot) }
    }

    fn patience(&self) -> Duration {
        self.pool.settings().limits.max_rate_limit_wait
    }

    fn release(&mut self, now: Ms, request: AgentRequest) {
        if let Some(fence) = self.held[request.agent].take() {
            let _stale = self.handle(now, Command::Release(fence));
        }
    }

    /// What every answer's headers say.
    fn learn(&mut self, now: Ms, account: usize, upstream: &SimulatedUpstream) {
        let reading = upstream.reading(account, now);
        let window = |name: &str, utilization: f64, end: Ms| Window {
            name: name.into(),
            utilization,
            resets_at: Some(Wall(EPOCH + end)),
            as_of: now_of(now).wall,
            key: String::new(),
        };
        let windows = vec![
            window("5h", reading.five_hours, reading.five_hours_end),
            window("7d", reading.week, reading.week_end),
        ];
        let _learnt = self.handle(now, Command::LearnUsage(self.ids[account], Usage { windows, ..Usage::default() }));
    }

    fn report(&mut self, now: Ms, request: AgentRequest, outcome: RequestOutcome) -> AgentStep {
        let Some(fence) = self.held[request.agent] else { return AgentStep::GiveUp(None) };
        let Ok(Reply::Decision(decision)) = self.handle(now, Command::Report { fence, outcome }) else {
            return AgentStep::GiveUp(None);
        };
        match (decision.action, decision.lease) {
            (Action::Switch, Some(moved)) => self.holds(request, moved),
            (Action::Continue | Action::Retry, _) => AgentStep::Sleep(millis(decision.after)),
            // the queue is where one waits: it knows who is next, and on which account
            (Action::Wait, _) => {
                self.release(now, request);
                AgentStep::Sleep(0)
            }
            (Action::Switch | Action::Stop, _) => {
                self.release(now, request);
                AgentStep::GiveUp(None)
            }
        }
    }
}

/// An agent whose stated wait is within its patience acquires again at once, and waits in the queue.
fn turned_away(now: Ms, patience: Duration, refusal: &Refusal) -> AgentStep {
    let told = refusal.retry_at.map(|at| at.since(now_of(now).wall));
    AgentStep::GiveUp(told.map(|told| if told < patience { 0 } else { millis(told) }))
}

impl RoutingRules for PoolRules {
    fn begin(&mut self, now: Ms, request: AgentRequest, _: &SimulatedUpstream) -> AgentStep {
        match self.handle(now, Command::Acquire(Box::new(ask(request)))) {
            Ok(Reply::Held(fence)) => self.holds(request, fence),
            Ok(Reply::Queued(waiter)) => {
                self.waiting.insert(waiter, request);
                AgentStep::Park
            }
            Ok(Reply::Decision(_) | Reply::Done) => AgentStep::GiveUp(None),
            Err(refusal) => turned_away(now, self.patience(), &refusal),
        }
    }

    fn answered(&mut self, now: Ms, sent: Sent, upstream: &SimulatedUpstream) -> Option<AgentStep> {
        let Sent { request, account, answer } = sent;
        match answer {
            UpstreamAnswer::Served => {
                self.learn(now, account, upstream);
                self.report(now, request, RequestOutcome::Ok);
                self.release(now, request);
                None
            }
            UpstreamAnswer::Refused { meter, wait } => {
                let finding = finding(now_of(now), meter, wait);
                Some(self.report(now, request, RequestOutcome::Refused(Box::new(finding))))
            }
        }
    }

    fn resume(&mut self, now: Ms, request: AgentRequest, upstream: &SimulatedUpstream) -> AgentStep {
        match self.held[request.agent] {
            Some(fence) => self.holds(request, fence),
            None => self.begin(now, request, upstream),
        }
    }

    fn next_wakeup(&self, now: Ms, _: &SimulatedUpstream) -> Option<Ms> {
        self.pool.next_wakeup(now_of(now)).map(|at| at.0.saturating_sub(BOOT))
    }

    fn wake(&mut self, now: Ms, _: &SimulatedUpstream) {
        let _ticked = self.handle(now, Command::Tick);
    }

    fn woken(&mut self) -> Vec<(usize, AgentStep)> {
        std::mem::take(&mut self.woken)
    }

    fn keeps_back(&self, _: Ms, account: usize) -> bool {
        let Some(account) = self.pool.account(self.ids[account]) else { return true };
        account.leases() >= self.pool.settings().leases.max_per_account
            || account.limits().iter().any(crate::pool::Limit::is_recovering)
    }
}
