//! `man`: the manual pages, one for each command, generated from the grammar that parses the command line.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_mangen::Man;

use crate::cli::{context::Context, error::CliError};
use crate::protocol::ErrorKind;

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The command, as in `account add` [default: the page of lessor itself]
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    command: Vec<String>,
    /// Write the page of every command into this directory
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

/// A page: its file name and its text.
struct Page {
    file: String,
    text: String,
}

pub(super) fn execute(args: &ManArgs, grammar: Command, context: &Context) -> Result<(), CliError> {
    let grammar = built(grammar);
    if let Some(directory) = &args.dir {
        let failed = |error| CliError::new(ErrorKind::Io, format!("cannot write to {}: {error}", directory.display()));
        std::fs::create_dir_all(directory).map_err(failed)?;
        let pages = pages(&grammar);
        for page in &pages {
            std::fs::write(directory.join(&page.file), &page.text).map_err(failed)?;
        }
        context.output.note(&format!("{} pages written to {}", pages.len(), directory.display()));
        return Ok(());
    }
    let mut command = &grammar;
    for word in &args.command {
        let below = command.find_subcommand(word).filter(|below| !below.is_hide_set());
        command = below.ok_or_else(|| {
            CliError::usage(format!("there is no command {:?}", args.command.join(" "))).hint("see: lessor help")
        })?;
    }
    context.output.text(&page(command).text)
}

fn built(grammar: Command) -> Command {
    let mut grammar = grammar.disable_help_subcommand(true);
    grammar.build();
    grammar
}

fn pages(command: &Command) -> Vec<Page> {
    let below = command.get_subcommands().filter(|below| !below.is_hide_set());
    std::iter::once(page(command)).chain(below.flat_map(pages)).collect()
}

fn page(command: &Command) -> Page {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let is_top = !name.contains('-');
    // the options of every command are listed once, on the page of lessor
    let own = command.clone().mut_args(|argument| {
        let hidden = argument.is_hide_set() || (argument.is_global_set() && !is_top);
        argument.hide(hidden)
    });
    let man = Man::new(own.clone());
    let title = name.to_uppercase();
    // without a date: a page is as old as the version that it names
    let mut text = format!(".TH {title} 1 \"\" \"lessor {}\" \"lessor manual\"\n", env!("CARGO_PKG_VERSION"));
    text += &part(|out| man.render_name_section(out));
    text += &part(|out| man.render_synopsis_section(out));
    text += &part(|out| man.render_description_section(out));
    if own.get_arguments().any(|argument| !argument.is_hide_set()) {
        text += &part(|out| man.render_options_section(out));
    }
    if own.get_subcommands().any(|below| !below.is_hide_set()) {
        text += &part(|out| man.render_subcommands_section(out)).replace("SUBCOMMANDS", "COMMANDS");
    }
    let (title, after) = last_section(&own);
    text += &format!(".SH {title}\n.nf\n{}\n.fi\n", escaped(after.trim_end()));
    if is_top {
        let examples = "lessor run claude\nlessor status\nlessor doctor";
        text += &format!(".SH EXAMPLES\n.nf\n{examples}\n.fi\n");
    }
    text += &format!(".SH \"SEE ALSO\"\n{}\n", see_also(&own));
    let mut lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines.dedup_by(|line, before| line == before && *line == ".br");
    Page { file: format!("{name}.1"), text: lines.join("\n") + "\n" }
}

/// The text after the help: the examples of a command, or the exit codes on the page of lessor.
fn last_section(command: &Command) -> (&'static str, String) {
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    for (begin, title) in [("Examples:", "EXAMPLES"), ("Example:", "EXAMPLES"), ("Exit codes:", "\"EXIT STATUS\"")] {
        if let Some(rest) = after.strip_prefix(begin) {
            let lines: Vec<&str> = rest.trim_start_matches('\n').lines().map(str::trim).collect();
            return (title, lines.join("\n"));
        }
    }
    ("NOTES", after)
}

/// The pages of the commands above; those below are listed already.
fn see_also(command: &Command) -> String {
    let words: Vec<&str> = command.get_bin_name().unwrap_or(command.get_name()).split(' ').collect();
    let mut pages: Vec<String> = (1..words.len()).rev().map(|length| words[..length].join("-")).collect();
    if pages.is_empty() {
        pages.extend(["run", "status", "account", "config", "doctor"].map(|name| format!("lessor-{name}")));
    }
    let pages: Vec<String> = pages.iter().map(|page| format!("\\fB{}\\fR(1)", page.replace('-', "\\-"))).collect();
    pages.join(",\n")
}

fn part(render: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut text = Vec::new();
    // writing to memory does not fail
    let _written = render(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Text that roff prints as it is.
fn escaped(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga");
        // an empty line, or one that begins a request
        if line.is_empty() || line.starts_with('.') { format!("\\&{line}") } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::Cli;
    use clap::CommandFactory;

    fn visible(command: &Command) -> usize {
        let below = command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help");
        1 + below.map(visible).sum::<usize>()
    }

    #[test]
    fn every_visible_command_has_a_page_with_its_name_its_usage_and_examples() {
        let grammar = Cli::command();
        let pages = pages(&built(Cli::command()));
        assert_eq!(pages.len(), visible(&grammar));
        for page in &pages {
            let name = page.file.strip_suffix(".1").unwrap();
            let title = name.to_uppercase();
            assert!(
                page.text.contains(&format!(".TH {title} 1 \"\" \"lessor {}\"", env!("CARGO_PKG_VERSION"))),
                "{name}: {}",
                page.text
            );
            for section in [".SH NAME\n", ".SH SYNOPSIS\n", ".SH DESCRIPTION\n", ".SH EXAMPLES\n", ".SH \"SEE ALSO\"\n"]
            {
                assert_eq!(page.text.matches(section).count(), 1, "{name}: {section}: {}", page.text);
            }
            assert!(page.text.contains("lessor"), "{name}");
            assert!(!page.text.contains("demo\\-agent") && !page.text.contains("supervise"), "{name}");
            assert_eq!(
                page.text.contains("\\-\\-no\\-start"),
                name == "lessor" || page.text.contains("lessor_"),
                "{name}"
            );
        }
        let names: std::collections::BTreeSet<&str> = pages.iter().map(|page| page.file.as_str()).collect();
        assert_eq!(names.len(), pages.len());
        assert!(names.contains("lessor.1") && names.contains("lessor-account-clear-limits.1"), "{names:?}");
    }

    #[test]
    fn examples_are_printed_as_they_are_typed() {
        assert_eq!(escaped("echo '{\"a\": 1}' \\"), r#"echo \(aq{"a": 1}\(aq \e"#);
        assert_eq!(escaped(".x\n\ny"), "\\&.x\n\\&\ny");
    }
}
