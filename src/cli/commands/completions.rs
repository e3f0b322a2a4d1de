//! `completions` and `man`: generated from the grammar that parses the command line.

use clap::Args;

use crate::cli::{context::Context, error::CliError};

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

pub(super) fn execute(args: &CompletionsArgs, mut grammar: clap::Command, context: &Context) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut grammar, "lessor", &mut script);
    context.output.text(&String::from_utf8_lossy(&script))
}

/// Prints the manual page: one page with a section for each command.
pub(super) fn man(grammar: clap::Command, context: &Context) -> Result<(), CliError> {
    let page = page(grammar).map_err(|error| CliError::of_output(&error))?;
    context.output.text(&page)
}

fn page(mut command: clap::Command) -> std::io::Result<String> {
    command.build();
    let mut page = Vec::new();
    let top = clap_mangen::Man::new(command.clone());
    top.render_title(&mut page)?;
    top.render_name_section(&mut page)?;
    top.render_synopsis_section(&mut page)?;
    top.render_description_section(&mut page)?;
    top.render_options_section(&mut page)?;
    section(&command, &mut page)?;
    top.render_extra_section(&mut page)?;
    top.render_version_section(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// A section for each subcommand of `command`, and for their subcommands.
fn section(command: &clap::Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        let full_name = below.get_bin_name().unwrap_or(below.get_name()).to_owned();
        // the options of every command are listed once, at the top
        let own = below.clone().mut_args(|argument| {
            let hidden = argument.is_global_set() || argument.is_hide_set();
            argument.hide(hidden)
        });
        let man = clap_mangen::Man::new(own);
        let mut part = Vec::new();
        man.render_synopsis_section(&mut part)?;
        man.render_description_section(&mut part)?;
        if below.get_arguments().any(|argument| !argument.is_global_set() && !argument.is_hide_set()) {
            man.render_options_section(&mut part)?;
        }
        if below.get_after_help().is_some() {
            man.render_extra_section(&mut part)?;
        }
        let part = String::from_utf8_lossy(&part);
        page.extend_from_slice(format!(".SH \"{}\"\n", full_name.to_uppercase()).as_bytes());
        for line in part.lines() {
            // a section of the command becomes a subsection
            let line = line.strip_prefix(".SH ").map_or_else(|| line.to_owned(), |title| format!(".SS {title}"));
            let line = line.replace(".SS EXTRA", ".SS EXAMPLES");
            page.extend_from_slice(line.as_bytes());
            page.push(b'\n');
        }
        section(below, page)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, ArgAction, Command};

    #[test]
    fn the_page_has_a_section_for_each_command_without_hidden_ones() {
        let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
        let add = Command::new("add").after_help("Example: x account add").arg(flag("launch").hide(true));
        let account = Command::new("account").subcommand(add.arg(flag("label")));
        let grammar = Command::new("x")
            .version("1")
            .after_help("Exit codes")
            .arg(flag("no-start").global(true))
            .subcommand(account);
        let page = page(grammar.subcommand(Command::new("internal").hide(true))).unwrap();
        for part in
            [".SH \"X ACCOUNT\"", ".SH \"X ACCOUNT ADD\"", "Example: x account add", r"\-\-no\-start", r"\-\-label"]
        {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains("launch") && !page.contains("INTERNAL"), "{page}");
    }
}
