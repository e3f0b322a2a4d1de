//! Starts as many agents as can have an account now, and keeps that many at work until all tasks are done. Each agent is a
//! command that `lessor run` starts: it leases its own account, and when that meets a limit, the gateway continues its
//! request on another account, or when the limit ends.
//!
//! With agents that are one `curl` each, on simulated accounts:
//!
//! ```sh
//! lessor demo --serve --accounts 4 --quota 5 -- cargo run --example orchestrator -- \
//!     40 examples/shell/orchestrator.sh agent
//! ```

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, thread};

use anyhow::{bail, ensure};
use lessor::client;
use lessor::protocol::ForecastParams;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [tasks, program, arguments @ ..] = arguments.as_slice() else {
        bail!("usage: orchestrator TASKS COMMAND…; the number of a task is added to its command");
    };
    let tasks: usize = tasks.parse()?;
    let forecast =
        client::connect()?.forecast(ForecastParams { provider: "anthropic".into(), ..ForecastParams::default() })?;
    if forecast.grantable == 0 {
        bail!("no agent can start now; see: lessor forecast anthropic");
    }
    println!("{} agents", forecast.grantable);
    let (next, failed) = (AtomicUsize::new(1), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..forecast.grantable {
            scope.spawn(|| {
                loop {
                    let task = next.fetch_add(1, Ordering::Relaxed);
                    if task > tasks {
                        break;
                    }
                    let mut agent = Command::new("lessor");
                    agent.args(["run", "-p", "anthropic", "--"]).arg(program).args(arguments).arg(task.to_string());
                    if !agent.status().is_ok_and(|status| status.success()) {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!("{tasks} tasks, {failed} failed");
    ensure!(failed == 0, "some tasks failed");
    Ok(())
}
