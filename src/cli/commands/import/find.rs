//! Finds the credentials of other tools: at the usual locations, or where the user says.

use std::path::{Path, PathBuf};

use crate::credential::import::discover::{DiscoveredFile, DiscoverySource, find_logins, read_path, read_path_of};
use crate::credential::import::discover::{HostEnvironment, Platform, default_paths};
use crate::credential::import::{DiscoveredAccount, ImportProblem, ParsedFile, SettingProposal, Tool, environment};
use crate::{cli::ui::format, pool::Wall};

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ImportSource {
    Everywhere,
    Tool(Tool),
    /// Files or directories, of one tool or of any.
    Files(Option<Tool>, Vec<PathBuf>),
}

#[derive(Debug, Default)]
pub(crate) struct FoundCredentials {
    /// Each login or key, with the file it was found in.
    pub(crate) entries: Vec<(DiscoveredAccount, String)>,
    pub(crate) files: Vec<FoundFile>,
}

/// A file that was read, or the environment.
#[derive(Debug, Default)]
pub(crate) struct FoundFile {
    /// Its path, or a name in place of one.
    pub(crate) name: String,
    pub(crate) tool: Option<Tool>,
    pub(crate) entries: usize,
    pub(crate) error: Option<String>,
    pub(crate) problems: Vec<ImportProblem>,
    pub(crate) settings: Vec<SettingProposal>,
    /// Settings that lessor does not have, each with the reason.
    pub(crate) unmatched: Vec<(String, String)>,
    /// Its permissions, if other users can read it.
    pub(crate) open_to_others: Option<u32>,
}

pub(crate) fn find(source: &ImportSource) -> FoundCredentials {
    let variable = |name: &str| std::env::var(name).ok();
    let home = directories::BaseDirs::new().map(|base| base.home_dir().to_owned());
    let of = HostEnvironment { system: Platform::here(), home: home.unwrap_or_default(), variable: &variable };
    let now = Wall(format::now());
    let mut result = FoundCredentials::default();
    let tool = match source {
        ImportSource::Files(tool, paths) => {
            for path in paths {
                if let Some(error) = unknown_word(*tool, path) {
                    let name = path.display().to_string();
                    result.files.push(FoundFile { name, error: Some(error), ..FoundFile::default() });
                    continue;
                }
                let found = match tool {
                    Some(tool) => read_path_of(*tool, path, &of, now),
                    None => read_path(path, &of, now),
                };
                if found.is_empty() {
                    let error = Some(match tool {
                        Some(tool) => format!("there is no login of {} in it", tool.title()),
                        None => "there is no file in it that could contain accounts".to_owned(),
                    });
                    result.files.push(FoundFile { name: path.display().to_string(), error, ..FoundFile::default() });
                }
                found.into_iter().for_each(|found| result.add(found));
            }
            return result;
        }
        ImportSource::Tool(tool) => Some(*tool),
        ImportSource::Everywhere => None,
    };
    let is_searched = |one: Tool| tool.is_none_or(|tool| tool == one);
    let mut places = default_paths(&of);
    places.retain(|place| is_searched(place.tool));
    find_logins(&places, &of, now).into_iter().for_each(|found| result.add(found));
    if is_searched(Tool::Environment) {
        result.add_environment(&variable);
    }
    result
}

/// A single word that is no file was perhaps meant as the name of a tool.
fn unknown_word(tool: Option<Tool>, path: &Path) -> Option<String> {
    let is_word = path.components().count() == 1 && path.extension().is_none();
    let tools = || Tool::ALL.map(Tool::name).join(", ");
    (tool.is_none() && is_word && path.symlink_metadata().is_err())
        .then(|| format!("there is no such file, and no such tool; the tools are {}", tools()))
}

impl FoundFile {
    /// Its permissions, if other users can read it and it may contain a secret.
    pub(crate) fn open_secrets(&self) -> Option<u32> {
        self.open_to_others.filter(|_| self.entries > 0 || !self.problems.is_empty())
    }
}

impl FoundCredentials {
    fn add(&mut self, found: DiscoveredFile) {
        let name = match &found.source {
            DiscoverySource::File(path) => path.display().to_string(),
            item @ (DiscoverySource::Keychain(_) | DiscoverySource::Keyring(_)) => item.to_string(),
        };
        let file = FoundFile { name, open_to_others: found.open_to_others, ..FoundFile::default() };
        match found.reading {
            Err(trouble) => self.files.push(FoundFile { error: Some(trouble.to_string()), ..file }),
            Ok((format, reading)) => self.add_reading(FoundFile { tool: format.tool(), ..file }, reading),
        }
    }

    fn add_environment(&mut self, variable: &dyn Fn(&str) -> Option<String>) {
        let reading = environment::read(variable);
        if !reading.entries.is_empty() || !reading.problems.is_empty() {
            let name = "environment".to_owned();
            self.add_reading(FoundFile { name, tool: Some(Tool::Environment), ..FoundFile::default() }, reading);
        }
    }

    fn add_reading(&mut self, mut file: FoundFile, reading: ParsedFile) {
        let ParsedFile { entries, problems, settings, unmatched, .. } = reading;
        file.entries = entries.len();
        (file.problems, file.settings, file.unmatched) = (problems, settings, unmatched);
        self.entries.extend(entries.into_iter().map(|entry| (entry, file.name.clone())));
        self.files.push(file);
    }
}
