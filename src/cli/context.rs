//! What commands share: places, output, and the way to the daemon.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::client::{Client, ClientError, DaemonStarter};
use crate::config::{AppPaths, Flags};

use super::Global;
use super::failure::Failure;
use super::output::Output;

/// What every command is handed.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) output: Output,
    pub(super) flags: Flags,
    pub(super) may_start: bool,
}

impl Context {
    pub(super) fn new(global: &Global) -> Self {
        let refused = std::env::var_os("LESSOR_NO_START").is_some_and(|value| !value.is_empty() && value != "0");
        Self {
            output: Output::of_process(global.json),
            flags: Flags { config: global.config.clone(), socket: global.socket.clone() },
            may_start: !global.no_start && !refused,
        }
    }

    pub(super) fn places(&self) -> Result<AppPaths, Failure> {
        AppPaths::from_process(&self.flags).map_err(|error| Failure::new("bad_request", error.to_string()))
    }

    /// How to start this same program as a daemon.
    pub(super) fn start(&self) -> Result<DaemonStarter, Failure> {
        DaemonStarter::this_program(&self.flags)
            .map_err(|error| Failure::new("internal", format!("this program's own file is not known: {error}")))
    }

    /// Asks for something that changes nothing; when the daemon ends just then, asks the next one.
    pub(super) fn ask<T>(&self, call: impl Fn(&mut Client) -> Result<T, ClientError>) -> Result<T, Failure> {
        match call(&mut self.connect()?) {
            Err(ClientError::Lost(_)) => Ok(call(&mut self.connect()?)?),
            answered => Ok(answered?),
        }
    }

    /// Connects; starts a daemon if there is none and that is allowed.
    pub(super) fn connect(&self) -> Result<Client, Failure> {
        let places = self.places()?;
        if self.may_start {
            return Ok(Client::connect_or_start(&places, &self.start()?)?);
        }
        Client::connect(&places).map_err(|error| Failure::from(error).hint("start one: lessor daemon"))
    }
}

/// The time of day, epoch ms.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    crate::pool::millis(since)
}
