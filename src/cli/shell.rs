//! `completions` and `man`: made from the same grammar that is parsed.

use clap::{Args, CommandFactory};

use super::Cli;
use super::context::Context;
use super::failure::Failure;

/// `completions`
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// For which shell
    shell: clap_complete::Shell,
}

/// Prints the completions of a shell.
pub(super) fn completions(options: &Completions, context: &Context) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "lessor", &mut script);
    context.output.text(&String::from_utf8_lossy(&script))
}

/// Prints the manual page: one page, a section for each command.
pub(super) fn man(context: &Context) -> Result<(), Failure> {
    let page = page().map_err(|error| Failure::of_output(&error))?;
    context.output.text(&page)
}

fn page() -> std::io::Result<String> {
    let mut command = Cli::command();
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

/// A section for each command below `command`, and theirs.
fn section(command: &clap::Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        let full_name = below.get_bin_name().unwrap_or(below.get_name()).to_owned();
        // what holds for every command stands above, once
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
        let part = String::from_utf8_lossy(&part);
        page.extend_from_slice(format!(".SH \"{}\"\n", full_name.to_uppercase()).as_bytes());
        for line in part.lines() {
            // its sections are parts of this one
            let line = line.strip_prefix(".SH ").map_or_else(|| line.to_owned(), |title| format!(".SS {title}"));
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

    #[test]
    fn the_page_has_every_command() {
        let page = page().unwrap();
        for title in ["LESSOR RUN", "LESSOR ACCOUNT ADD", "LESSOR ACQUIRE"] {
            assert!(page.contains(&format!(".SH \"{title}\"")), "{title}");
        }
        assert!(page.contains(r"\-\-no\-start") && !page.contains(r"\-\-launch"), "hidden options stay hidden");
    }
}
