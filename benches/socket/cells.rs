//! Acquire and release under load: rates, processor time of the server, times of a cycle.

use std::time::Duration;

use lessor::measure::socket::{Encoding, SocketLoad, socket_round};
use lessor::measure::{Figures, block_on, median};

use super::servers::{Server, home};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(1000);
const FEW_ACCOUNTS: usize = 10;
const MANY_ACCOUNTS: usize = 1000;

struct Cell {
    name: &'static str,
    load: SocketLoad,
    accounts: usize,
    /// The ratio that must be met.
    must: f64,
}

const fn cell(name: &'static str, load: SocketLoad, must: f64) -> Cell {
    Cell { name, load, accounts: FEW_ACCOUNTS, must }
}

const fn pipelined(encoding: Encoding) -> SocketLoad {
    SocketLoad { connections: 8, encoding, depth: 16, rate: None }
}

/// 2000 cycles a second, whatever the server does.
const OPEN: SocketLoad = SocketLoad { connections: 64, encoding: Encoding::Json, depth: 1, rate: Some(2000) };

const CELLS: [Cell; 11] = [
    cell("1 connection, bincode", SocketLoad::closed(1, Encoding::Binary), 0.85),
    cell("8 connections, bincode", SocketLoad::closed(8, Encoding::Binary), 0.80),
    cell("64 connections, bincode", SocketLoad::closed(64, Encoding::Binary), 0.85),
    cell("512 connections, bincode", SocketLoad::closed(512, Encoding::Binary), 0.80),
    cell("64 connections, JSON", SocketLoad::closed(64, Encoding::Json), 0.75),
    cell("512 connections, JSON", SocketLoad::closed(512, Encoding::Json), 0.70),
    cell("8 x 16 pipelined, bincode", pipelined(Encoding::Binary), 0.40),
    cell("8 x 16 pipelined, JSON", pipelined(Encoding::Json), 0.25),
    cell("64 connections, JSON, 2000/s", OPEN, 1.0),
    Cell {
        accounts: MANY_ACCOUNTS,
        ..cell("64 bincode, 1000 accounts", SocketLoad::closed(64, Encoding::Binary), 0.78)
    },
    Cell { accounts: MANY_ACCOUNTS, ..cell("64 JSON, 1000 accounts", SocketLoad::closed(64, Encoding::Json), 0.69) },
];

/// What the rounds of one server have brought.
#[derive(Default)]
struct Rounds {
    rates: Vec<f64>,
    /// Microseconds of its processor time for each cycle.
    costs: Vec<f64>,
    times: Figures,
}

impl Rounds {
    fn add(&mut self, load: SocketLoad, server: &Server) {
        let before = server.processor_time();
        let figures = block_on(socket_round(load, &server.socket, ROUND)).unwrap();
        if let Some((before, after)) = before.zip(server.processor_time()) {
            self.costs.push((after - before).as_secs_f64() * 1e6 / figures.count() as f64);
        }
        self.rates.push(figures.rate);
        self.times.add(figures);
    }
}

/// Measures the cells whose name contains this.
pub fn measure(only: &str) {
    let cells: Vec<&Cell> = CELLS.iter().filter(|cell| cell.name.contains(only)).collect();
    if cells.is_empty() {
        return;
    }
    println!(
        "{:<30}{:>11}{:>11}{:>7}{:>6}   {:<22}{:<26}p99, us",
        "cell", "limit/s", "lessor/s", "ratio", "must", "server us/cycle", "p50, us"
    );
    for accounts in [FEW_ACCOUNTS, MANY_ACCOUNTS] {
        let of_size: Vec<&&Cell> = cells.iter().filter(|cell| cell.accounts == accounts).collect();
        if of_size.is_empty() {
            continue;
        }
        let directory = home(accounts);
        let (limit, daemon) = (Server::echo(directory.path()), Server::daemon(directory.path()));
        drop((limit.connect(), daemon.connect()));
        for cell in of_size {
            let (mut limits, mut ours) = (Rounds::default(), Rounds::default());
            for _ in 0..ROUNDS {
                limits.add(cell.load, &limit);
                ours.add(cell.load, &daemon);
            }
            print(cell, limits, ours);
        }
    }
}

fn print(cell: &Cell, limits: Rounds, ours: Rounds) {
    let (limit, lessor) = (median(limits.rates), median(ours.rates));
    let (cost, our_cost) = (median(limits.costs), median(ours.costs));
    let compared = |limit: f64, ours: f64| format!("{limit:.1} {ours:.1} ({:.2} x)", ours / limit);
    let at = |share| {
        let us = |figures: &Figures| figures.at(share).as_secs_f64() * 1e6;
        compared(us(&limits.times), us(&ours.times))
    };
    println!(
        "{:<30}{limit:>11.0}{lessor:>11.0}{:>7.2}{:>6.2}   {:<22}{:<26}{}",
        cell.name,
        lessor / limit,
        cell.must,
        compared(cost, our_cost),
        at(0.50),
        at(0.99),
    );
}
