//! A host without a database: its pool, and the answers that a test gives it.

use std::time::Duration;

use lessor::limits::Reason;
use lessor::pool::{
    AccountId, Attestation, Command, ConnectionId, Decision, Effect, Ending, Fence, FenceBlock, LeaseRequest, Mono,
    Now, Pool, PoolSettings, Refusal, RefusalDetails, Reply, RequestNeeds, RequestOutcome, SeatDenial, SeatLimits,
    Wall,
};

use super::world::{record, target};

pub fn a() -> AccountId {
    account(1)
}

pub fn b() -> AccountId {
    account(2)
}

pub fn account(n: u64) -> AccountId {
    AccountId::from_bits(n)
}

pub struct Fixture {
    pub pool: Pool,
    pub now: Now,
    pub effects: Vec<Effect>,
    next_block: u64,
}

impl Fixture {
    /// A host with a term of 30 s, and these shared accounts of capacity 1 and ceiling 2.
    pub fn new(shared: &[AccountId], change: impl FnOnce(&mut PoolSettings)) -> Self {
        let mut settings = PoolSettings::default();
        change(&mut settings);
        let now = Now { mono: Mono(1_000_000), wall: Wall(1_800_000_000_000) };
        let mut fixture = Self { pool: Pool::new(settings), now, effects: vec![], next_block: 4_096 };
        for account in shared {
            fixture.run(Command::AddAccount(Box::new(record(account.bits())))).unwrap();
            fixture.run(Command::ShareAccount(*account, SeatLimits { capacity: 1, ceiling: 2 })).unwrap();
        }
        fixture.run(Command::JoinTerm { until: Mono(1_030_000) }).unwrap();
        let fences = fixture.block();
        fixture.run(Command::TakeFences(fences)).unwrap();
        fixture
    }

    pub fn block(&mut self) -> FenceBlock {
        self.next_block += 4_096;
        FenceBlock { from: Fence(self.next_block - 4_096), to: Fence(self.next_block - 1) }
    }

    pub fn run(&mut self, command: Command) -> Result<Reply, Refusal> {
        self.effects.clear();
        let reply = self.pool.handle(self.now, command, &mut self.effects);
        self.pool.check(self.now).unwrap();
        reply
    }

    pub fn pass(&mut self, ms: u64) {
        self.now = Now { mono: Mono(self.now.mono.0 + ms), wall: Wall(self.now.wall.0 + ms) };
        self.run(Command::Tick).unwrap();
    }

    pub fn claimed(&mut self, account: AccountId, seats: u32) {
        let fences = self.block();
        self.run(Command::SeatsClaimed { account, seats, elsewhere: 0, fences }).unwrap();
    }

    pub fn denied(&mut self, account: AccountId, why: SeatDenial) {
        self.run(Command::SeatsDenied { account, elsewhere: 2, why }).unwrap();
    }

    /// The claims of the last command.
    pub fn claims(&self) -> Vec<(AccountId, u32)> {
        let claims = self.effects.iter().filter_map(|effect| match effect {
            Effect::ClaimSeats { account, seats, .. } => Some((*account, *seats)),
            _ => None,
        });
        claims.collect()
    }

    pub fn given_back(&self) -> Vec<(AccountId, u32)> {
        let given = self.effects.iter().filter_map(|effect| match effect {
            Effect::GiveBackSeats { account, seats } => Some((*account, *seats)),
            _ => None,
        });
        given.collect()
    }

    /// The answer to the only queued request.
    pub fn answer(&self) -> Option<Result<Fence, Refusal>> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Answer { result, .. } => Some(result.clone()),
            _ => None,
        })
    }

    pub fn cut_off(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Ended(_, Ending::CutOff))).count()
    }

    /// A lease on the account, with a seat that is claimed for it.
    pub fn lease(&mut self, on: AccountId) -> Fence {
        let others = self.pool.accounts().iter().map(|account| account.record.id).filter(|id| *id != on);
        let ask = LeaseRequest { exclude: others.collect(), ..ask() };
        match self.run(Command::Acquire(Box::new(ask))).unwrap() {
            Reply::Held(fence) => fence,
            _ => {
                assert_eq!(self.claims(), [(on, 1)]);
                self.claimed(on, 1);
                self.answer().unwrap().unwrap()
            }
        }
    }

    pub fn held(&self, account: AccountId) -> u32 {
        self.pool.seats(account).unwrap().held
    }
}

/// A request that does not wait.
pub fn ask() -> LeaseRequest {
    LeaseRequest { wait: Some(Duration::ZERO), ..LeaseRequest::new("p", "k", ConnectionId(1)) }
}

pub fn acquire() -> Command {
    Command::Acquire(Box::new(LeaseRequest { target: target(), ..ask() }))
}

/// A refusal that names this wait.
pub fn refused(fence: Fence, wait: Duration) -> Command {
    let details = RefusalDetails::reported(Reason::RateLimitExceeded, Some(wait));
    Command::Report { fence, outcome: RequestOutcome::Refused(Box::new(details)) }
}

pub fn limited(fence: Fence) -> Command {
    refused(fence, Duration::from_secs(60))
}

pub fn serve(fence: Fence) -> Command {
    let need = RequestNeeds { target: target(), exclude: vec![], attested: Attestation::default() };
    Command::Serve { fence, need: Box::new(need) }
}

pub fn decision(reply: Result<Reply, Refusal>) -> Decision {
    let Ok(Reply::Decision(decision)) = reply else { panic!("{reply:?}") };
    decision
}
