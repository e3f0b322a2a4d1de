//! A daemon whose key is in a locked keyring: until the key is available, it serves the calls that need no secret.

use std::sync::Arc;

use super::connections::Connections;
use super::{ReadyReport, Run, StartError, system};
use super::{restore::restore, serve::StopReason};
use crate::config::LoadedConfig;
use crate::daemon::api::connection::planner::PlannerThread;
use crate::daemon::config::ConfigWatcher;
use crate::daemon::state::{ActiveConfig, KeyringWait, RunInfo};
use crate::daemon::worker::{WaitsFor, WorkerThread};
use crate::store::{AcceptedStore, KeyringError, Store, StoreError, StorePaths};

/// Serves until the key is available, or until the daemon stops.
pub(super) fn wait_for_keyring(
    run: &mut Run<'_>,
    mut error: KeyringError,
    (paths, loaded): (&StorePaths, &LoadedConfig),
) -> Result<Result<AcceptedStore, StopReason>, StartError> {
    tracing::warn!("{error}: no account can serve until the key is available");
    ReadyReport::new(&run.holder, &run.log).send();
    loop {
        let keyring = wait_on_a_thread(error.to_string()).map_err(system("starting a thread"))?;
        let info = RunInfo { keyring: Some(keyring.clone()), ..run.info.clone() };
        let config_path = run.paths.config.clone();
        let (watcher, _) = ConfigWatcher::load(config_path.clone(), run.options.log.clone());
        let opened = Store::open_without_key(paths)?;
        let planner = PlannerThread::start().map_err(system("starting a thread"))?;
        let reason = run.runtime.block_on(async {
            let (daemon, ended) = restore(ActiveConfig::new(loaded.clone(), config_path), opened, info);
            let thread = WorkerThread::start("workers", WaitsFor::Mail).map_err(system("starting a thread"))?;
            let config = watcher.start(&thread, &daemon);
            drop(thread);
            let connections = Connections::new(planner.planner(), run.info.most_connections);
            let reason = run.serving.serve(daemon, (planner, connections), ended, None).await;
            config.end();
            Ok::<_, StartError>(reason)
        })?;
        keyring.give_up();
        if reason != StopReason::Unlocked {
            return Ok(Err(reason));
        }
        match Store::accept(paths) {
            Err(StoreError::Keyring(again)) => error = again,
            accepted => {
                tracing::info!("the key is available");
                return Ok(Ok(accepted?));
            }
        }
    }
}

/// Waits for the keyring on a thread of its own.
fn wait_on_a_thread(why: String) -> std::io::Result<Arc<KeyringWait>> {
    let wait = Arc::new(KeyringWait::new(why));
    let waiting = wait.clone();
    std::thread::Builder::new().name("keyring".to_owned()).spawn(move || {
        Store::wait_for_keyring(&|| waiting.is_given_up(), |error| waiting.set_why(error.to_string()));
        waiting.end();
    })?;
    Ok(wait)
}
