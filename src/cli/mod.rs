//! The command line: parses the arguments, calls the daemon, prints text or JSON.

mod commands;
mod context;
mod error;
mod launch;
mod ui;

use std::process::ExitCode;

pub use commands::grammar;
use context::Context;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    if commands::answer_shell() {
        return ExitCode::SUCCESS;
    }
    let (global, command) = match commands::parse() {
        Ok(parsed) => parsed,
        Err(error) => {
            // printing help to a closed pipe is not an error
            let _closed = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(error::USAGE));
        }
    };
    let mut context = Context::new(global);
    context.output.silent = commands::prints_a_value(&command);
    match commands::execute(command, &context) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            context.output.error(&error);
            ExitCode::from(error.exit)
        }
    }
}
