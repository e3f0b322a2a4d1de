//! The overview of the commands in `lessor help`, by group.

use clap::Command;

use crate::cli::ui::{help_width, wrap_after};

/// No help text is wider, in columns.
pub(super) const MAX_WIDTH: usize = 100;

/// The groups of commands, in the order of the overview.
pub(super) const GROUPS: [(&str, &[&str]); 5] = [
    ("Everyday", &["run", "alias", "env", "move", "status", "top", "login", "import", "doctor", "demo"]),
    ("Accounts", &["account", "pool", "export", "backup", "restore", "secrets"]),
    ("Look", &["ui", "forecast", "leases", "history", "requests", "explain", "events", "logs", "simulate", "bench"]),
    (
        "Scripts",
        &[
            "acquire",
            "token",
            "release",
            "renew",
            "report",
            "classify",
            "statusline",
            "mcp",
            "schema",
            "completions",
            "man",
        ],
    ),
    (
        "Daemon",
        &["daemon", "stop", "restart", "reload", "ping", "config", "gateway", "join", "leave", "share", "service"],
    ),
];
const NAMES: usize = 13;

/// The command whose help lists its subcommands by group.
pub(super) fn grouped(command: Command) -> Command {
    let overview = overview(&command, help_width(MAX_WIDTH));
    let options = heading(&command, "Options");
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{overview}\
         The options and an example of a command: lessor help COMMAND\n\n{options}\n{{options}}{{after-help}}"
    );
    command.help_template(template)
}

pub(super) fn overview(command: &Command, width: usize) -> String {
    let mut text = String::new();
    for (title, names) in GROUPS {
        text += &format!("{}\n", heading(command, title));
        for name in names {
            let about = command.find_subcommand(name).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            text += &format!("{}\n", wrap_after(&format!("  {name:<NAMES$}"), &about, width, NAMES + 2));
        }
        text.push('\n');
    }
    text
}

fn heading(command: &Command, title: &str) -> String {
    let style = command.get_styles().get_header();
    format!("{style}{title}:{style:#}")
}
