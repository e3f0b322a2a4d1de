//! `bench`: what lessor does in a second on this machine. A real daemon in a temporary directory, an upstream on
//! loopback, and each figure beside the same work without lessor, in rounds that alternate.

mod machine;
mod report;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, builder::RangedU64ValueParser};

use super::demo::TemporaryHome;
use crate::cli::ui::progress::{Progress, bar};
use crate::cli::{context::Context, error::CliError};
use crate::measure::gateway::{Endpoint, gateway_round, serve_upstream};
use crate::measure::pool::{cycle, filled_pool};
use crate::measure::{Figures, add_accounts, block_on, median};
use crate::pool::{Overflow, Strategy};
use crate::protocol::GatewayKeyParams;

use machine::Machine;
pub(super) use report::BenchResult;
use report::{GatewayFigures, PoolFigures, SocketFigures};

const PROVIDER: &str = "anthropic";
const ACCOUNTS: usize = 10;
/// The other size of the pool that is measured.
const MANY: usize = 1_000;
/// Rounds of each load, with lessor and without.
const ROUNDS: usize = 3;
/// The connections of each load.
const CONNECTIONS: [usize; 2] = [1, 64];
/// Rounds of the socket, of the gateway and of the pool, each as long as the others.
const ALL_ROUNDS: usize = ROUNDS * (2 * 2 * CONNECTIONS.len() + 2 * CONNECTIONS.len() + 2);
/// The exit code of shells after Ctrl-C.
const INTERRUPTED: u8 = 130;

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// How long to measure, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = RangedU64ValueParser::<u64>::new().range(2..=600))]
    seconds: u64,
}

/// One round after the other, until the user ends them.
struct Rounds {
    time: Duration,
    progress: Progress,
    stop: Arc<AtomicBool>,
}

impl Rounds {
    /// Runs one round; `None` after Ctrl-C.
    fn run<T>(
        &self,
        what: &'static str,
        round: impl FnOnce(Duration) -> anyhow::Result<T>,
    ) -> anyhow::Result<Option<T>> {
        if self.stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.progress.says(what);
        let measured = round(self.time)?;
        self.progress.step();
        Ok(Some(measured))
    }

    /// Alternates rounds without lessor and with it: the rates of both, and all figures of both.
    fn compare(
        &self,
        what: &'static str,
        without: impl Fn(Duration) -> anyhow::Result<Figures>,
        with: impl Fn(Duration) -> anyhow::Result<Figures>,
    ) -> anyhow::Result<Option<[(f64, Figures); 2]>> {
        let mut rates = [Vec::new(), Vec::new()];
        let mut all = [Figures::default(), Figures::default()];
        for _ in 0..ROUNDS {
            for (index, round) in [&without as &dyn Fn(Duration) -> _, &with].into_iter().enumerate() {
                let Some(figures) = self.run(what, round)? else { return Ok(None) };
                rates[index].push(figures.rate);
                all[index].add(figures);
            }
        }
        let [without, with] = rates.map(median);
        let [figures_without, figures_with] = all;
        Ok(Some([(without, figures_without), (with, figures_with)]))
    }
}

pub(super) fn execute(args: &BenchArgs, context: &Context) -> Result<u8, CliError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).map_err(|error| failed(&error.into()))?;
    }
    let machine = Machine::now();
    if let Some(warning) = machine.warning() {
        context.output.note(&format!("warning: {warning}"));
    }
    let time = Duration::from_secs(args.seconds) / u32::try_from(ALL_ROUNDS).unwrap_or(1);
    let rounds = Rounds { time, progress: bar(ALL_ROUNDS), stop };
    let measured = measure(&rounds).map_err(|error| failed(&error))?;
    drop(rounds);
    let Some((socket, pool, gateway)) = measured else { return Ok(INTERRUPTED) };
    let result = BenchResult { machine, seconds: args.seconds, socket, pool, gateway };
    context.output.result(&result, || report::text(&result, &context.output))?;
    Ok(0)
}

fn failed(error: &anyhow::Error) -> CliError {
    CliError::internal(format!("the measurement was interrupted by an error: {error:#}"))
}

type Measured = (Vec<SocketFigures>, Vec<PoolFigures>, Vec<GatewayFigures>);

fn measure(rounds: &Rounds) -> anyhow::Result<Option<Measured>> {
    let upstream = serve_upstream()?;
    // the daemon ends even if this process is killed; its log is not measured
    let config = format!(
        "[daemon]\nidle_exit = \"10s\"\nlog = \"warn\"\n[providers.{PROVIDER}]\n\
         base_url = \"http://127.0.0.1:{upstream}\"\n"
    );
    let mut home = TemporaryHome::with_config(PROVIDER, &config)?;
    home.start_daemon()?;
    add_accounts(home.client()?, PROVIDER, ACCOUNTS)?;
    let Some(socket) = measure_socket(rounds, &home)? else { return Ok(None) };
    let mut pool = Vec::new();
    for accounts in [ACCOUNTS, MANY] {
        let mut filled = filled_pool(accounts, Strategy::Hybrid, Overflow::Share);
        let mut best = f64::INFINITY;
        for _ in 0..ROUNDS {
            let Some(ns) = rounds.run("the choice of an account", |time| Ok(cycle(&mut filled, None, time)))? else {
                return Ok(None);
            };
            best = best.min(ns);
        }
        pool.push(PoolFigures { accounts, ns: best });
    }
    let access = home.client()?.gateway_key(GatewayKeyParams::default())?;
    let port = access.url.as_deref().and_then(|url| url.rsplit(':').next()?.parse().ok());
    let Some(port) = port else { anyhow::bail!("the gateway does not listen: {:?}", access.trouble) };
    let direct = Endpoint { port: upstream, prefix: "", key: "k".to_owned() };
    let through = Endpoint { port, prefix: "/anthropic", key: access.key.0.to_string() };
    let mut gateway = Vec::new();
    for connections in CONNECTIONS {
        let round = |endpoint: &Endpoint, time| block_on(gateway_round(endpoint, connections, time));
        let what = "requests through the gateway";
        let compared = rounds.compare(what, |time| round(&direct, time), |time| round(&through, time))?;
        let Some([direct, through]) = compared else { return Ok(None) };
        gateway.push(GatewayFigures::new(connections, &direct, &through));
    }
    Ok(Some((socket, pool, gateway)))
}

#[cfg(unix)]
fn measure_socket(rounds: &Rounds, home: &TemporaryHome) -> anyhow::Result<Option<Vec<SocketFigures>>> {
    use crate::measure::socket::{Encoding, SocketLoad, serve_echo, socket_round};
    let echo = home.path().join("echo.sock");
    serve_echo(&echo)?;
    let mut all = Vec::new();
    for encoding in [Encoding::Binary, Encoding::Json] {
        for connections in CONNECTIONS {
            let load = SocketLoad::closed(connections, encoding);
            let round = |socket: &std::path::Path, time| block_on(socket_round(load, socket, time));
            let what = "leases over the socket";
            let compared = rounds.compare(what, |time| round(&echo, time), |time| round(home.socket(), time))?;
            let Some([echo, lessor]) = compared else { return Ok(None) };
            let encoding = if encoding == Encoding::Binary { "binary" } else { "JSON" };
            all.push(SocketFigures::new(encoding, connections, &echo, &lessor));
        }
    }
    Ok(Some(all))
}

/// The bare server that it is compared with needs a Unix socket.
#[cfg(not(unix))]
fn measure_socket(rounds: &Rounds, home: &TemporaryHome) -> anyhow::Result<Option<Vec<SocketFigures>>> {
    let _unused = (rounds, home.path(), home.socket());
    Ok(Some(Vec::new()))
}
