//! The result of an import, as text.

use super::report::{ImportReport, ImportRow, ImportSummary};
use super::settings::{SettingChange, SkippedSetting};
use crate::cli::ui::{Column, Output, Table, Tint, clean, format::count};

/// The most names before a sentence; more are only counted.
const MAX_NAMES: usize = 3;

pub(super) fn text(report: &ImportReport, output: &Output) -> String {
    let mut text = String::new();
    if !report.entries.is_empty() {
        text += &table(&report.entries, output);
        text += &output.prose(&sentences(&report.entries));
        text.push('\n');
    }
    if !report.config.is_empty() {
        text += &changes(&report.config, output);
        text += &match (&report.config_verdict, report.dry_run) {
            (Some(reload), _) => output.prose(&format!("they are in the configuration now\n{}\n", reload.text())),
            (None, true) => "\n".to_owned(),
            (None, false) => "to import them: lessor import --accept-config\n\n".to_owned(),
        };
    }
    text + &summary(report)
}

fn table(rows: &[ImportRow], output: &Output) -> String {
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

/// Each sentence once, with the names of its entries.
fn sentences(rows: &[ImportRow]) -> String {
    let mut sentences: Vec<(&str, Vec<String>)> = Vec::new();
    for row in rows {
        match sentences.iter_mut().find(|(message, _)| *message == row.message) {
            Some((_, names)) => names.push(row.name()),
            None => sentences.push((&row.message, vec![row.name()])),
        }
    }
    let line = |(message, names): (&str, Vec<String>)| {
        let subject = if names.len() > MAX_NAMES { count(names.len(), "account") } else { names.join(", ") };
        format!("{}: {}\n", clean(&subject), clean(message))
    };
    sentences.into_iter().map(line).collect()
}

/// The settings that would change, as a diff of the configuration.
pub(super) fn changes(config: &[SettingChange], output: &Output) -> String {
    let mut text = String::from("settings of other tools, as changes of the configuration:\n");
    let mut file = "";
    for change in config {
        let SettingChange { key, now_toml, toml, from, .. } = change;
        if file != change.file {
            file = &change.file;
            text += &format!("  {}\n", clean(file));
        }
        let old = clean(&format!("- {key} = {now_toml}"));
        let new = clean(&format!("+ {key} = {toml}"));
        let from = output.tint(Tint::Faint, &clean(&format!("  ({from})")));
        text += &format!("  {}\n  {}{from}\n", output.tint(Tint::Bad, &old), output.tint(Tint::Good, &new));
    }
    text
}

fn summary(report: &ImportReport) -> String {
    let ImportSummary { added, updated, same, linked, refused, broken } = report.summary;
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
    let outcomes = match parts.as_slice() {
        [] if report.config.is_empty() => {
            return "nothing was found; to log in: lessor login claude (or codex, gemini, agy)\n".to_owned();
        }
        [] => return String::new(),
        parts => parts.join(", "),
    };
    if report.dry_run { format!("would be: {outcomes}; nothing was changed\n") } else { format!("{outcomes}\n") }
}

pub(super) fn note_problems(report: &ImportReport, output: &Output) {
    let note = |text: String| output.labelled_note(Tint::Strong, "note:", &text);
    let broken = |text: String| output.labelled_note(Tint::Bad, "broken:", &text);
    for sentence in &report.terms {
        note(clean(&format!("{sentence}.")));
    }
    for SkippedSetting { from, file, why } in &report.config_left_out {
        note(clean(&format!("{file}: `{from}` is not imported: {why}")));
    }
    for file in &report.files {
        let path = clean(&file.path);
        if let Some(error) = &file.error {
            broken(format!("{path}: {}", clean(error)));
        }
        for problem in &file.problems {
            let place = if problem.place.is_empty() { String::new() } else { format!("{}: ", clean(&problem.place)) };
            let text = format!("{path}: {place}{}", clean(&problem.message));
            if problem.broken { broken(text) } else { note(text) }
        }
        if let Some(mode) = &file.open_to_others {
            let tool = file.tool.as_deref().unwrap_or("its tool");
            note(format!("other users can read {path} (of {tool}, mode {mode}); to prevent it: chmod 600 '{path}'"));
        }
    }
}
