//! What an import came to, for people.

use crate::pool::CredentialKind;

use super::super::output::{Output, Tint, clean};
use super::super::table::{Column, Table};
use super::super::words::count;
use super::settings::{Change, LeftOut};
use super::{Report, Row, Summary};

/// What people call a kind of credential.
pub(in crate::cli) const KIND: fn(CredentialKind) -> &'static str = |kind| match kind {
    CredentialKind::Oauth => "login",
    CredentialKind::ApiKey => "key",
    CredentialKind::Token => "token",
};

/// Names of entries that one sentence is said of, before they are only counted.
const MOST_NAMES: usize = 3;

pub(super) fn text(report: &Report, output: &Output) -> String {
    let mut text = String::new();
    if !report.entries.is_empty() {
        text += &table(&report.entries, output);
        text += &sentences(&report.entries);
        text.push('\n');
    }
    if !report.config.is_empty() {
        text += &changes(&report.config, output);
        text += &match (&report.config_verdict, report.dry_run) {
            (Some(verdict), _) => format!("they are in the configuration now\n{}\n", verdict.words()),
            (None, true) => "\n".to_owned(),
            (None, false) => "to take them over: lessor import --accept-config\n\n".to_owned(),
        };
    }
    text + &summary(report)
}

fn table(rows: &[Row], output: &Output) -> String {
    let mut table = Table::new(&[
        Column::fixed("OUTCOME"),
        Column::flexible("ACCOUNT", 8),
        Column::fixed("PROVIDER"),
        Column::fixed("KIND"),
        Column::flexible("FROM", 8),
    ]);
    for row in rows {
        let tint = match row.outcome.as_str() {
            "refused" => Tint::Bad,
            "same" => Tint::Faint,
            _ => Tint::Good,
        };
        table.row(vec![
            (row.outcome.clone(), Some(tint)),
            (row.name(), None),
            (row.provider.clone(), None),
            (row.kind.clone(), None),
            (row.tool.clone(), Some(Tint::Faint)),
        ]);
    }
    table.render(output)
}

/// Each sentence once, with whom it is of.
fn sentences(rows: &[Row]) -> String {
    let mut said: Vec<(&str, Vec<String>)> = Vec::new();
    for row in rows {
        match said.iter_mut().find(|(message, _)| *message == row.message) {
            Some((_, names)) => names.push(row.name()),
            None => said.push((&row.message, vec![row.name()])),
        }
    }
    let line = |(message, names): (&str, Vec<String>)| {
        let who = if names.len() > MOST_NAMES { count(names.len() as u64, "account") } else { names.join(", ") };
        format!("{}: {}\n", clean(&who), clean(message))
    };
    said.into_iter().map(line).collect()
}

/// The settings that would change, as a difference of the configuration.
pub(super) fn changes(config: &[Change], output: &Output) -> String {
    let mut text = String::from("settings of other tools, as a change of lessor's configuration:\n");
    let mut file = "";
    for change in config {
        let Change { key, now_toml, toml, from, .. } = change;
        if file != change.file {
            file = &change.file;
            text += &format!("  {}\n", clean(file));
        }
        let old = clean(&format!("- {key} = {now_toml}"));
        let new = clean(&format!("+ {key} = {toml}"));
        let idle = if change.active { "" } else { "; not active yet in this version" };
        let from = output.tint(Tint::Faint, &clean(&format!("  ({from}{idle})")));
        text += &format!("  {}\n  {}{from}\n", output.tint(Tint::Bad, &old), output.tint(Tint::Good, &new));
    }
    text
}

fn summary(report: &Report) -> String {
    let Summary { added, updated, same, linked, refused, broken } = report.summary;
    let parts = [
        (added, "added"),
        (linked, "linked"),
        (updated, "updated"),
        (same, "same"),
        (refused, "refused"),
        (broken, "broken"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}")).collect();
    let said = match parts.as_slice() {
        [] if report.config.is_empty() => return "nothing was found\n".to_owned(),
        [] => return String::new(),
        parts => parts.join(", "),
    };
    if report.dry_run { format!("would be: {said}; nothing was changed\n") } else { format!("{said}\n") }
}

/// What is wrong with files, beside the result.
pub(super) fn troubles(report: &Report, output: &Output) {
    for LeftOut { from, file, why } in &report.config_left_out {
        let line = clean(&format!("{file}: `{from}` is left out: {why}"));
        output.note(&format!("{} {line}", output.strong("note:")));
    }
    for file in &report.files {
        let path = clean(&file.path);
        if let Some(error) = &file.error {
            output.note(&format!("{} {path}: {}", output.bad("broken:"), clean(error)));
        }
        for problem in &file.problems {
            let place = if problem.place.is_empty() { String::new() } else { format!("{}: ", clean(&problem.place)) };
            let word = if problem.broken { output.bad("broken:") } else { output.strong("note:") };
            output.note(&format!("{word} {path}: {place}{}", clean(&problem.message)));
        }
        if let Some(mode) = &file.open_to_others {
            let tool = file.tool.as_deref().unwrap_or("its tool");
            output.note(&format!(
                "{} {path} (of {tool}) is open to other users (mode {mode}); close it: chmod 600 '{path}'",
                output.strong("note:")
            ));
        }
    }
}
