//! The figures of `bench`, and their tables.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::machine::Machine;
use crate::cli::ui::{Column, Output, Table, Tint};
use crate::measure::Figures;

/// What was measured.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct BenchResult {
    /// The machine.
    pub(super) machine: Machine,
    /// How long was measured, without the start of the daemon.
    pub(super) seconds: u64,
    /// Leases over the socket; empty where they cannot be compared.
    pub(super) socket: Vec<SocketFigures>,
    /// The choice of an account alone.
    pub(super) pool: Vec<PoolFigures>,
    /// Requests through the gateway.
    pub(super) gateway: Vec<GatewayFigures>,
}

/// Acquire and release over the socket.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SocketFigures {
    /// `binary` or `JSON`.
    encoding: &'static str,
    /// Connections at the same time.
    connections: usize,
    /// Acquire and release, a second.
    per_second: f64,
    /// The same messages with a server that decides nothing, a second.
    echo_per_second: f64,
    /// The first as a share of the second.
    ratio: f64,
    /// The time of half of them at most, µs.
    p50_us: f64,
    /// The time of 99 % of them at most, µs.
    p99_us: f64,
    /// The same with the server that decides nothing.
    echo_p99_us: f64,
}

impl SocketFigures {
    /// Where there are Unix sockets; the pipe of Windows is not measured.
    #[cfg(any(unix, test))]
    pub(super) fn new(
        encoding: &'static str,
        connections: usize,
        echo: &(f64, Figures),
        lessor: &(f64, Figures),
    ) -> Self {
        Self {
            encoding,
            connections,
            per_second: lessor.0,
            echo_per_second: echo.0,
            ratio: ratio(lessor.0, echo.0),
            p50_us: micros(lessor.1.at(0.5)),
            p99_us: micros(lessor.1.at(0.99)),
            echo_p99_us: micros(echo.1.at(0.99)),
        }
    }
}

/// Acquire and release in the pool, without socket and disk.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PoolFigures {
    /// The number of accounts to choose from.
    pub(super) accounts: usize,
    /// Nanoseconds of one acquire and release.
    pub(super) ns: f64,
}

/// Requests to an upstream on this machine.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct GatewayFigures {
    /// Connections at the same time.
    connections: usize,
    /// Requests through the gateway, a second.
    per_second: f64,
    /// Requests to the upstream itself, a second.
    direct_per_second: f64,
    /// The first as a share of the second.
    ratio: f64,
    /// The time to the first byte of half of the requests through the gateway at most, µs.
    p50_us: f64,
    /// The same for 99 % of them.
    p99_us: f64,
    /// How much longer the median is than without the gateway, µs.
    added_us: f64,
}

impl GatewayFigures {
    pub(super) fn new(connections: usize, direct: &(f64, Figures), through: &(f64, Figures)) -> Self {
        Self {
            connections,
            per_second: through.0,
            direct_per_second: direct.0,
            ratio: ratio(through.0, direct.0),
            p50_us: micros(through.1.at(0.5)),
            p99_us: micros(through.1.at(0.99)),
            added_us: micros(through.1.at(0.5)) - micros(direct.1.at(0.5)),
        }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

pub(super) fn text(result: &BenchResult, output: &Output) -> String {
    let heading = |text: &str| format!("\n{}\n", output.tint(Tint::Strong, text));
    let plain = |cells: Vec<String>| cells.into_iter().map(|cell| (cell, None)).collect::<Vec<_>>();
    let mut text = format!("{}; {} s\n", result.machine.text(), result.seconds);
    if !result.socket.is_empty() {
        text += &heading("leases over the socket: acquire and release");
        let mut table = Table::new(&[
            Column::fixed("MESSAGES"),
            Column::number("CONNECTIONS"),
            Column::number("PER SECOND"),
            Column::number("OF BARE ECHO"),
            Column::number("P50"),
            Column::number("P99"),
            Column::number("ECHO P99"),
        ]);
        for row in &result.socket {
            table.row(plain(vec![
                row.encoding.to_owned(),
                row.connections.to_string(),
                format!("{:.0}", row.per_second),
                percent(row.ratio),
                time(row.p50_us),
                time(row.p99_us),
                time(row.echo_p99_us),
            ]));
        }
        text += &table.render(output);
    }
    text += &heading("choice of an account: acquire and release, in memory");
    let mut table = Table::new(&[Column::number("ACCOUNTS"), Column::number("TIME")]);
    for row in &result.pool {
        table.row(plain(vec![row.accounts.to_string(), format!("{:.0} ns", row.ns)]));
    }
    text += &table.render(output);
    text += &heading("requests through the gateway, to an upstream on this machine");
    let mut table = Table::new(&[
        Column::number("CONNECTIONS"),
        Column::number("PER SECOND"),
        Column::number("OF DIRECT"),
        Column::number("P50"),
        Column::number("P99"),
        Column::number("ADDED AT P50"),
    ]);
    for row in &result.gateway {
        table.row(plain(vec![
            row.connections.to_string(),
            format!("{:.0}", row.per_second),
            percent(row.ratio),
            time(row.p50_us),
            time(row.p99_us),
            time(row.added_us),
        ]));
    }
    text + &table.render(output)
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

fn time(us: f64) -> String {
    if us.abs() < 1000.0 { format!("{us:.0} µs") } else { format!("{:.1} ms", us / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_width::UnicodeWidthStr;

    #[test]
    fn the_tables_fit_80_columns_and_name_their_units() {
        let figures = |ms: u64| (98_765.4, Figures::new(vec![Duration::from_millis(ms)], Duration::from_secs(1)));
        let machine = Machine { cores: 64, system: "linux x86_64".to_owned(), load: Some(0.25), optimized: true };
        let result = BenchResult {
            machine,
            seconds: 20,
            socket: vec![SocketFigures::new("binary", 64, &figures(1), &figures(2))],
            pool: vec![PoolFigures { accounts: 1_000, ns: 6_012.3 }],
            gateway: vec![GatewayFigures::new(64, &figures(3), &figures(12))],
        };
        let text = text(&result, &Output::plain(80));
        assert!(text.lines().all(|line| line.width() <= 80), "{text}");
        for part in ["64 cores, linux x86_64, load 0.2 before; 20 s", "100 %", "6012 ns", "12.0 ms", "9.0 ms", "1.0 ms"]
        {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
    }
}
