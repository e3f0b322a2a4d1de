//! Acquire and release under load: rates, processor time of the server, times of a cycle.
//!
//! Rounds of the two servers alternate, and each figure is the median of its rounds. A cell is measured again if the
//! rounds of one server differ too much.

use std::time::Duration;

use lessor::measure::socket::{Encoding, SocketLoad, bytes_of_cycle, socket_round};
use lessor::measure::{block_on, median};

use super::servers::{Server, home};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(1000);
/// The rates of one server may differ by this share of the median.
const MOST_SPREAD: f64 = 0.15;
const MOST_ATTEMPTS: usize = 4;
/// The answers of both servers may differ by this share in size.
const MOST_DIFFERENCE: f64 = 0.03;
const FEW_ACCOUNTS: usize = 10;
const MANY_ACCOUNTS: usize = 1000;

/// What a cell is compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Against {
    /// The bare server.
    Limit,
    /// The daemon with few accounts; the cell has many.
    FewAccounts,
}

struct Cell {
    name: &'static str,
    load: SocketLoad,
    against: Against,
    must: Must,
}

/// The ratios that must be met, where there are any.
#[derive(Clone, Copy)]
struct Must {
    /// Cycles a second, at least.
    rate: Option<f64>,
    /// Processor time of the server for a cycle, at most.
    cost: Option<f64>,
    p50: Option<f64>,
    p99: Option<f64>,
}

const NOTHING: Must = Must { rate: None, cost: None, p50: None, p99: None };

const fn rate(least: f64) -> Must {
    Must { rate: Some(least), ..NOTHING }
}

const fn closed(name: &'static str, connections: usize, encoding: Encoding, must: Must) -> Cell {
    Cell { name, load: SocketLoad::closed(connections, encoding), against: Against::Limit, must }
}

const fn pipelined(name: &'static str, encoding: Encoding, must: Must) -> Cell {
    let load = SocketLoad { connections: 8, encoding, depth: 16, rate: None };
    Cell { name, load, against: Against::Limit, must }
}

/// 2000 cycles a second, whatever the server does.
const fn open(name: &'static str, encoding: Encoding, must: Must) -> Cell {
    let load = SocketLoad { connections: 64, encoding, depth: 1, rate: Some(2000) };
    Cell { name, load, against: Against::Limit, must }
}

const fn many_accounts(name: &'static str, encoding: Encoding) -> Cell {
    let load = SocketLoad::closed(64, encoding);
    Cell { name, load, against: Against::FewAccounts, must: rate(0.92) }
}

use Encoding::{Binary, Json};

const CELLS: [Cell; 12] = [
    closed("64 connections, JSON", 64, Json, Must { rate: Some(0.75), cost: Some(1.4), p50: None, p99: Some(1.2) }),
    closed("512 connections, JSON", 512, Json, rate(0.70)),
    pipelined("8 x 16 pipelined, JSON", Json, rate(0.25)),
    closed("1 connection, bincode", 1, Binary, rate(0.85)),
    closed("8 connections, bincode", 8, Binary, rate(0.80)),
    closed("64 connections, bincode", 64, Binary, Must { p99: Some(1.2), ..rate(0.85) }),
    closed("512 connections, bincode", 512, Binary, rate(0.80)),
    pipelined("8 x 16 pipelined, bincode", Binary, rate(0.40)),
    open("64 at 2000/s, JSON", Json, Must { p50: Some(1.1), p99: Some(1.3), ..NOTHING }),
    open("64 at 2000/s, bincode", Binary, Must { p50: Some(1.1), p99: Some(1.3), ..NOTHING }),
    many_accounts("64 JSON, 1000 accounts/10", Json),
    many_accounts("64 bincode, 1000 accounts/10", Binary),
];

/// What the rounds of one server have brought.
#[derive(Default)]
struct Rounds {
    rates: Vec<f64>,
    /// Microseconds of its processor time for each cycle.
    costs: Vec<f64>,
    /// Microseconds of a cycle.
    p50s: Vec<f64>,
    p99s: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, load: SocketLoad, server: &Server) {
        let before = server.processor_time();
        let figures = block_on(socket_round(load, &server.socket, ROUND)).unwrap();
        if let Some((before, after)) = before.zip(server.processor_time()) {
            self.costs.push((after - before).as_secs_f64() * 1e6 / figures.count() as f64);
        }
        self.rates.push(figures.rate);
        self.p50s.push(figures.at(0.50).as_secs_f64() * 1e6);
        self.p99s.push(figures.at(0.99).as_secs_f64() * 1e6);
    }

    /// How far the rates are apart, as a share of the median.
    fn spread(&self) -> f64 {
        let least = self.rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.rates.iter().copied().fold(0.0, f64::max);
        (most - least) / median(self.rates.clone())
    }
}

/// The rounds of a cell.
#[derive(Default)]
struct Measured {
    limit: Rounds,
    ours: Rounds,
}

impl Measured {
    fn of(load: SocketLoad, limit: &Server, ours: &Server) -> Self {
        let mut best: Option<Self> = None;
        for _ in 0..MOST_ATTEMPTS {
            let mut measured = Self::default();
            for round in 0..ROUNDS {
                // neither is always the first
                if round % 2 == 0 {
                    measured.limit.add(load, limit);
                    measured.ours.add(load, ours);
                } else {
                    measured.ours.add(load, ours);
                    measured.limit.add(load, limit);
                }
            }
            if best.as_ref().is_none_or(|best| measured.spread() < best.spread()) {
                best = Some(measured);
            }
            if best.as_ref().is_some_and(|best| best.spread() <= MOST_SPREAD) {
                break;
            }
        }
        best.unwrap()
    }

    fn spread(&self) -> f64 {
        self.limit.spread().max(self.ours.spread())
    }

    fn print(&self, cell: &Cell) {
        let Self { limit, ours } = self;
        let must = cell.must;
        let [per_second, our_per_second] = [&limit.rates, &ours.rates].map(|rates| median(rates.clone()));
        println!(
            "{:<30}{per_second:>9.0}{our_per_second:>9.0}{:>9}  {:<19}{:<19}{:<21}{:>6}",
            cell.name,
            marked(our_per_second / per_second, must.rate, |ratio, must| ratio >= must, ""),
            compared(&limit.costs, &ours.costs, must.cost),
            compared(&limit.p50s, &ours.p50s, must.p50),
            compared(&limit.p99s, &ours.p99s, must.p99),
            format!("{:.0} %{}", self.spread() * 100.0, if self.spread() > MOST_SPREAD { "?" } else { "" }),
        );
    }
}

/// `5.4 7.1 1.31x`; with `!` where more than `most` was measured.
fn compared(limit: &[f64], ours: &[f64], most: Option<f64>) -> String {
    if limit.is_empty() || ours.is_empty() {
        // not known on this system
        return "-".to_owned();
    }
    let [limit, ours] = [limit, ours].map(|values| median(values.to_vec()));
    let digits = usize::from(limit < 100.0);
    let ratio = marked(ours / limit, most, |ratio, most| ratio <= most, "x");
    format!("{limit:.digits$} {ours:.digits$} {ratio}")
}

fn marked(ratio: f64, must: Option<f64>, is_met: fn(f64, f64) -> bool, unit: &str) -> String {
    let mark = if must.is_none_or(|must| is_met(ratio, must)) { "" } else { "!" };
    format!("{ratio:.2}{unit}{mark}")
}

/// The servers, each started when the first cell needs it.
#[derive(Default)]
struct Servers {
    few: Option<(tempfile::TempDir, Server, Server)>,
    many: Option<(tempfile::TempDir, Server)>,
}

impl Servers {
    /// The server to compare with, and the daemon.
    fn of(&mut self, against: Against) -> (&Server, &Server) {
        let (_, limit, few) = self.few.get_or_insert_with(|| {
            let directory = home(FEW_ACCOUNTS);
            let (limit, daemon) = (Server::echo(directory.path()), Server::daemon(directory.path()));
            drop((limit.connect(), daemon.connect()));
            for encoding in [Binary, Json] {
                check_sizes(encoding, &limit, &daemon);
            }
            (directory, limit, daemon)
        });
        if against == Against::Limit {
            return (limit, few);
        }
        let (_, many) = self.many.get_or_insert_with(|| {
            let directory = home(MANY_ACCOUNTS);
            let daemon = Server::daemon(directory.path());
            drop(daemon.connect());
            (directory, daemon)
        });
        (few, many)
    }
}

/// The bare server must send as much as the daemon.
fn check_sizes(encoding: Encoding, limit: &Server, daemon: &Server) {
    let [limit, ours] =
        [limit, daemon].map(|server| block_on(bytes_of_cycle(encoding, &server.socket)).unwrap() as f64);
    let difference = (limit - ours).abs() / ours;
    assert!(difference <= MOST_DIFFERENCE, "{encoding:?}: the bare server answers {limit} bytes, the daemon {ours}");
}

/// Measures the cells whose name contains this.
pub fn measure(only: &str) {
    let mut servers = Servers::default();
    for (place, cell) in CELLS.iter().filter(|cell| cell.name.contains(only)).enumerate() {
        if place == 0 {
            println!(
                "medians of {ROUNDS} rounds; ! misses its target; spread: of the rates, ? after {MOST_ATTEMPTS} attempts"
            );
            println!(
                "{:<30}{:>9}{:>9}{:>9}  {:<19}{:<19}{:<21}{:>6}",
                "cell", "limit/s", "lessor/s", "ratio", "server us/cycle", "p50, us", "p99, us", "spread"
            );
        }
        let (limit, ours) = servers.of(cell.against);
        Measured::of(cell.load, limit, ours).print(cell);
    }
}
