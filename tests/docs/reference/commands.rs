//! All commands, from the grammar that parses the command line.

use std::collections::BTreeSet;
use std::process::Command as Process;

use clap::{Arg, Command};

use super::{cell, check, code, table, without_default};

const BEGINNING: &str = "\
<!-- not run: examples of single commands, each with accounts or files of its own; a test parses them -->

`lessor help COMMAND` prints the same, and `lessor man COMMAND` as a manual page. `ACCOUNT` is an account: its id, a unique \
beginning of its id, its email address or its label. Options of [every command](#options-of-every-command) and \
[exit codes](#exit-codes) come last.

";

#[test]
fn the_reference_of_the_commands_is_the_grammar() {
    let (mut grammar, groups) = lessor::cli::grammar();
    grammar = grammar.disable_help_subcommand(true).max_term_width(100);
    grammar.build();
    let documents = commands_with_documents();
    let mut text = BEGINNING.to_owned();
    for (title, names) in groups {
        let rows: Vec<_> = names.iter().map(|name| overview(grammar.find_subcommand(name).unwrap())).collect();
        text += &format!("**{title}**\n\n{}\n", table(["command", "does"], &rows));
    }
    for name in groups.iter().flat_map(|(_, names)| *names) {
        describe(grammar.find_subcommand(name).unwrap(), 2, &documents, &mut text);
    }
    text += &format!("## Options of every command\n\n{}\n", arguments(&grammar, |argument| argument.is_global_set()));
    text += &format!("## Exit codes\n\n{}\n", exit_codes(&grammar));
    check("commands.md", "Commands", &text);
}

/// The commands that print a JSON document.
fn commands_with_documents() -> BTreeSet<String> {
    let schemas = Process::new(env!("CARGO_BIN_EXE_lessor")).arg("schema").output().unwrap();
    let schemas: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&schemas.stdout).unwrap();
    schemas.into_iter().map(|(name, _)| name).collect()
}

fn overview(command: &Command) -> [String; 2] {
    let name = full_name(command);
    [format!("[`{name}`](#{})", name.replace(' ', "-")), about(command)]
}

fn full_name(command: &Command) -> String {
    command.get_bin_name().unwrap_or(command.get_name()).to_owned()
}

fn about(command: &Command) -> String {
    cell(&command.get_about().map(ToString::to_string).unwrap_or_default())
}

fn describe(command: &Command, level: usize, documents: &BTreeSet<String>, text: &mut String) {
    let name = full_name(command);
    *text += &format!("{} {name}\n\n{}.\n\n", "#".repeat(level), about(command));
    let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
    // its first paragraph is the line above
    for paragraph in long.split("\n\n").skip(1) {
        *text += &format!("{}\n\n", cell(paragraph));
    }
    *text += &format!("```text\n{}\n```\n\n", usage(command));
    let own = arguments(command, |argument| !argument.is_global_set());
    if !own.is_empty() {
        *text += &format!("{own}\n");
    }
    let below: Vec<&Command> = command.get_subcommands().filter(|below| !below.is_hide_set()).collect();
    if below.is_empty() && !documents.contains(name.trim_start_matches("lessor ")) {
        *text += "It has no `--json`.\n\n";
    }
    *text += &examples(command);
    for below in below {
        describe(below, (level + 1).min(4), documents, text);
    }
}

fn usage(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let lines = usage.trim_start_matches("Usage:").lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

/// A table of arguments and options; nothing if there are none.
fn arguments(command: &Command, which: impl Fn(&Arg) -> bool) -> String {
    let shown = |argument: &&Arg| !argument.is_hide_set() && argument.get_id() != "help" && which(argument);
    let mut found: Vec<&Arg> = command.get_arguments().filter(shown).collect();
    // as they stand on the command line: values first
    found.sort_by_key(|argument| !argument.is_positional());
    let rows: Vec<_> = found.into_iter().map(row).collect();
    if rows.is_empty() { String::new() } else { table(["option", "default", "meaning"], &rows) }
}

fn row(argument: &Arg) -> [String; 3] {
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let values = argument.get_possible_values();
    let (help, stated) = without_default(&help);
    let mut meaning = cell(help);
    if !values.is_empty() && !argument.is_hide_possible_values_set() && takes_value(argument) {
        let names: Vec<String> =
            values.iter().filter(|value| !value.is_hide_set()).map(|value| code(value.get_name())).collect();
        meaning += &format!(": {}", names.join(", "));
    }
    let defaults: Vec<&str> = argument.get_default_values().iter().filter_map(|value| value.to_str()).collect();
    let default = if takes_value(argument) { code(&defaults.join(" ")) } else { String::new() };
    let default = if default.is_empty() { cell(stated) } else { default };
    [code(&name(argument)), default, meaning]
}

fn takes_value(argument: &Arg) -> bool {
    argument.get_action().takes_values()
}

fn name(argument: &Arg) -> String {
    let names: Vec<String> = match argument.get_value_names() {
        Some(names) => names.iter().map(ToString::to_string).collect(),
        None => vec![argument.get_id().as_str().to_uppercase()],
    };
    let many = argument.get_num_args().is_some_and(|number| number.max_values() > names.len());
    let value = format!("{}{}", names.join(" "), if many { "…" } else { "" });
    if argument.is_positional() {
        return if argument.is_required_set() { value } else { format!("[{value}]") };
    }
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let mut text = short.into_iter().chain(long).collect::<Vec<_>>().join(", ");
    if takes_value(argument) {
        let is_optional = argument.get_num_args().is_some_and(|number| number.min_values() == 0);
        text += &if is_optional { format!("[={value}]") } else { format!(" {value}") };
    }
    text
}

fn examples(command: &Command) -> String {
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let Some((_, examples)) = after.split_once(':') else { return String::new() };
    let lines: Vec<&str> = examples.trim().lines().map(str::trim).collect();
    let language =
        if lines.iter().all(|line| !line.starts_with('{') && !line.starts_with('"')) { "sh" } else { "text" };
    format!("```{language}\n{}\n```\n\n", lines.join("\n"))
}

#[test]
fn every_example_is_a_command_line_that_the_grammar_accepts() {
    let (grammar, _) = lessor::cli::grammar();
    let mut checked = 0;
    let mut wrong = Vec::new();
    for (name, example) in all_examples(&grammar, "lessor") {
        let words = shlex::split(&example.replace("$$", "4711")).unwrap_or_default();
        let words: Vec<String> =
            words.into_iter().take_while(|word| !["|", "<", ">", "&&"].contains(&word.as_str())).collect();
        if words.first().is_none_or(|word| word != "lessor") {
            continue;
        }
        checked += 1;
        if let Err(error) = grammar.clone().try_get_matches_from(words) {
            wrong.push(format!("{name}: {example}: {error}"));
        }
    }
    assert!(checked > 100 && wrong.is_empty(), "{checked} examples: {wrong:#?}");
}

/// The lines of examples, each with its command; hidden commands included.
fn all_examples(command: &Command, name: &str) -> Vec<(String, String)> {
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let own = after.split_once("Example").and_then(|(_, rest)| rest.split_once(':'));
    let lines = own.map(|(_, lines)| lines.trim().lines().map(str::trim).map(str::to_owned).collect::<Vec<_>>());
    let mut found: Vec<_> = lines.into_iter().flatten().map(|line| (name.to_owned(), line)).collect();
    for below in command.get_subcommands() {
        found.extend(all_examples(below, &format!("{name} {}", below.get_name())));
    }
    found
}

/// The table of the exit codes, from the text below the help: two columns of `CODE  MEANING`.
fn exit_codes(grammar: &Command) -> String {
    let after = grammar.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = after.strip_prefix("Exit codes:").unwrap().trim_matches('\n').lines();
    let cells = lines.flat_map(|line| line.trim().split("    ")).map(str::trim).filter(|cell| !cell.is_empty());
    let mut rows: Vec<[String; 2]> = cells
        .map(|entry| entry.split_once("  ").unwrap_or_else(|| panic!("{entry:?} is not CODE  MEANING")))
        .map(|(codes, meaning)| [codes.trim().to_owned(), cell(meaning.trim())])
        .collect();
    rows.sort_by_key(|[codes, _]| codes.split(',').next().and_then(|code| code.parse::<u32>().ok()));
    assert!(rows.len() >= 8, "{rows:?}");
    table(["code", "meaning"], &rows)
}
