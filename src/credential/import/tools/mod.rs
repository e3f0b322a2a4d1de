//! One reader for each tool's files. The readers are pure: JSON goes in, accounts and problems come out.

mod agy;
mod anthropic_multi_auth;
mod antigravity_auth;
mod antigravity_manager;
pub(super) mod claude_code;
mod cliproxyapi;
mod codex;
mod gemini_cli;
mod lessor_export;
mod opencode;

pub use lessor_export::EXPORT_VERSION;

use std::collections::HashMap;

use serde_json::Value;

use super::fields::{JsonFields, ProblemList, is_short_text};
use super::{DiscoveredAccount, FileContent, FileFormat, ParsedFile, Tool, settings};

pub(in crate::credential::import) fn read(
    format: FileFormat,
    document: &Value,
    beside: Option<&Value>,
    content: &FileContent<'_>,
) -> ParsedFile {
    let problems = ProblemList::default();
    let top = match document {
        Value::Object(map) => JsonFields::new(map, String::new(), &problems),
        _ => JsonFields::none(&problems),
    };
    let beside = beside.and_then(Value::as_object).map(|map| JsonFields::new(map, String::new(), &problems));
    let mut entries = match format {
        FileFormat::AntigravityCli => agy::read(&top),
        FileFormat::AntigravityAuth => antigravity_auth::read(&top, content.now),
        FileFormat::AnthropicMultiAuth => anthropic_multi_auth::read(&top, content.now),
        FileFormat::ClaudeCode => claude_code::credentials(&top, beside.as_ref(), content.now),
        FileFormat::ClaudeCodeSettings => claude_code::settings(&top),
        FileFormat::Codex => codex::read(&top),
        FileFormat::GeminiCli => gemini_cli::read(&top, beside.as_ref()),
        FileFormat::Opencode => opencode::read(&top),
        FileFormat::OpencodeDatabase => opencode::read_database(&top),
        FileFormat::AntigravityManager => antigravity_manager::account(&top, content.now).into_iter().collect(),
        FileFormat::AntigravityManagerList => antigravity_manager::list(document, &problems),
        FileFormat::CliProxyApi => cliproxyapi::read(&top).into_iter().collect(),
        FileFormat::Lessor => lessor_export::read(&top, content.now),
        FileFormat::AntigravityAuthConfig
        | FileFormat::AntigravityManagerConfig
        | FileFormat::AntigravityManagerIndex
        | FileFormat::GeminiCliAccounts
        | FileFormat::Empty => Vec::new(),
    };
    let (settings, unmatched) = match format {
        FileFormat::AntigravityAuthConfig => settings::antigravity_auth(&top),
        FileFormat::AntigravityManagerConfig => settings::antigravity_manager(&top),
        FileFormat::AnthropicMultiAuth if !entries.is_empty() => settings::anthropic_multi_auth(),
        _ => Default::default(),
    };
    leave_out_unnamed(&mut entries, &problems);
    name_apart(&mut entries);
    for entry in &mut entries {
        // these files are rewritten at each refresh, so their time does not tell when the login was made
        let refreshed =
            [Tool::GeminiCli, Tool::AntigravityCli, Tool::CliProxyApi].contains(&entry.tool) && !entry.rotates;
        entry.as_of = entry.as_of.or(content.written).filter(|_| !refreshed);
        entry.limits.retain(|limit| limit.until > content.now);
        entry.usage.retain(|window| window.resets_at.is_some_and(|at| at > content.now));
        entry.last_used_at = entry.last_used_at.filter(|at| *at <= content.now);
    }
    ParsedFile { entries, problems: problems.into_list(), settings, unmatched }
}

/// Leaves out what cannot be stored and shown: some texts are keys of objects, or parts of other texts, so that no field
/// has checked them.
fn leave_out_unnamed(entries: &mut Vec<DiscoveredAccount>, problems: &ProblemList) {
    const WHY: &str = "is over 256 bytes, or contains control characters";
    entries.retain_mut(|entry| {
        let DiscoveredAccount { item, provider, email, label, project_id, .. } = entry;
        for (what, text) in [("email address", email), ("label", label), ("project", project_id)] {
            if text.as_deref().is_some_and(|text| !is_short_text(text)) {
                problems.note_named(item, format!("its {what} is left out: it {WHY}"));
                *text = None;
            }
        }
        let is_named = is_short_text(item) && is_short_text(provider);
        if !is_named {
            problems.note_named(item, format!("is left out: its name {WHY}"));
        } else if provider.is_empty() {
            problems.note("an entry", "is left out: its name is empty");
        }
        is_named && !provider.is_empty()
    });
}

/// Makes the name of each entry unique, so that it can be found again in the file.
fn name_apart(entries: &mut [DiscoveredAccount]) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for entry in entries {
        let count = seen.entry(entry.item.clone()).or_default();
        *count += 1;
        if *count > 1 {
            entry.item = format!("{} ({count})", entry.item);
        }
    }
}
