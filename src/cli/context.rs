//! What every command receives: the global options, the output, and access to the daemon.

use std::path::PathBuf;

use clap::Args;

use super::{error::CliError, ui::Output};
use crate::client::{Client, ClientError, DaemonStarter};
use crate::config::{AppPaths, Config, Flags};

/// The options of every command.
#[derive(Debug, Args)]
pub(crate) struct GlobalArgs {
    /// Print one JSON document instead of text
    #[arg(long, global = true, display_order = 900)]
    json: bool,
    /// Do not start a daemon if none is running (also LESSOR_NO_START=1)
    #[arg(long, global = true, display_order = 901)]
    no_start: bool,
    /// Use this configuration file (also LESSOR_CONFIG)
    #[arg(long, global = true, value_name = "FILE", display_order = 902)]
    config: Option<PathBuf>,
    /// Use the daemon that listens on this socket (also LESSOR_SOCKET)
    #[arg(long, global = true, value_name = "PATH", display_order = 903)]
    socket: Option<PathBuf>,
}

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) output: Output,
    pub(crate) flags: Flags,
    pub(crate) may_start: bool,
}

impl Context {
    pub(crate) fn new(global: GlobalArgs) -> Self {
        let refused = std::env::var_os("LESSOR_NO_START").is_some_and(|value| !value.is_empty() && value != "0");
        Self {
            output: Output::of_process(global.json),
            flags: Flags { config: global.config, socket: global.socket },
            may_start: !global.no_start && !refused,
        }
    }

    pub(crate) fn places(&self) -> Result<AppPaths, CliError> {
        AppPaths::from_process(&self.flags).map_err(|error| CliError::bad_request(error.to_string()))
    }

    pub(crate) fn config(&self) -> Result<Config, CliError> {
        let loaded = Config::load(&self.places()?.config);
        Ok(loaded.map_err(|errors| CliError::config(errors.to_string()))?.config)
    }

    pub(crate) fn start(&self) -> Result<DaemonStarter, CliError> {
        DaemonStarter::this_program(&self.flags)
            .map_err(|error| CliError::internal(format!("cannot find the file of this program: {error}")))
    }

    /// Makes a call that changes nothing; if the daemon ends during the call, makes it once more.
    pub(crate) fn ask<T>(&self, call: impl Fn(&mut Client) -> Result<T, ClientError>) -> Result<T, CliError> {
        match call(&mut self.connect()?) {
            Err(ClientError::Lost(_)) => Ok(call(&mut self.connect()?)?),
            result => Ok(result?),
        }
    }

    /// Connects to the daemon; starts one if none is running and starting is allowed.
    pub(crate) fn connect(&self) -> Result<Client, CliError> {
        let places = self.places()?;
        if self.may_start {
            return Ok(Client::connect_or_start(&places, &self.start()?)?);
        }
        Client::connect(&places).map_err(|error| CliError::from(error).hint("start one: lessor daemon"))
    }
}
