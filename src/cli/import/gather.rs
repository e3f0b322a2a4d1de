//! What is on this machine: looked for at the usual places, or where the user says.

use std::path::{Path, PathBuf};

use crate::credential::import::discover::{Found, Source, Trouble, look, look_at};
use crate::credential::import::places::{Surroundings, System, usual};
use crate::credential::import::{Entry, Problem, Proposal, Tool, environment};
use crate::pool::Wall;

use super::super::context;

/// What to look at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::cli) enum Where {
    /// Every usual place.
    Everywhere,
    /// The usual places of one tool.
    Of(Tool),
    /// These files and directories.
    At(Vec<PathBuf>),
}

/// All that was found.
#[derive(Debug, Default)]
pub(in crate::cli) struct Gathered {
    pub(in crate::cli) entries: Vec<(Entry, String)>,
    pub(in crate::cli) files: Vec<File>,
}

/// A file that was looked at, or the environment.
#[derive(Debug)]
pub(in crate::cli) struct File {
    /// Its path, or what stands for one.
    pub(in crate::cli) name: String,
    pub(in crate::cli) tool: Option<Tool>,
    pub(in crate::cli) entries: usize,
    /// Why nothing was read.
    pub(in crate::cli) error: Option<String>,
    pub(in crate::cli) problems: Vec<Problem>,
    pub(in crate::cli) settings: Vec<Proposal>,
    /// Settings without a counterpart, each with why.
    pub(in crate::cli) unmatched: Vec<(String, String)>,
    /// Its permissions, where they let others in.
    pub(in crate::cli) open_to_others: Option<u32>,
}

/// Looks.
pub(in crate::cli) fn gather(wanted: &Where) -> Gathered {
    let variable = |name: &str| std::env::var(name).ok();
    let home = directories::BaseDirs::new().map(|base| base.home_dir().to_owned());
    let of = Surroundings { system: System::here(), home: home.unwrap_or_default(), variable: &variable };
    let now = Wall(context::now());
    let mut gathered = Gathered::default();
    let tool = match wanted {
        Where::At(paths) => {
            for path in paths {
                let found = look_at(path, &of, now);
                if found.is_empty() {
                    gathered.files.push(nothing_in(path));
                }
                found.into_iter().for_each(|found| gathered.take(found));
            }
            return gathered;
        }
        Where::Of(tool) => Some(*tool),
        Where::Everywhere => None,
    };
    let wanted = |one: Tool| tool.is_none_or(|tool| tool == one);
    let mut places = usual(&of);
    places.retain(|place| wanted(place.tool));
    look(&places, &of, now).into_iter().for_each(|found| gathered.take(found));
    if wanted(Tool::Environment) {
        gathered.take_environment(&variable);
    }
    gathered
}

impl File {
    /// Its permissions, where they let others in who could find a secret there.
    pub(in crate::cli) fn open_secrets(&self) -> Option<u32> {
        self.open_to_others.filter(|_| self.entries > 0 || !self.problems.is_empty())
    }
}

fn nothing_in(path: &Path) -> File {
    File {
        name: path.display().to_string(),
        tool: None,
        entries: 0,
        error: Some("there is no file in it that could hold accounts".to_owned()),
        problems: Vec::new(),
        settings: Vec::new(),
        unmatched: Vec::new(),
        open_to_others: None,
    }
}

impl Gathered {
    fn take(&mut self, found: Found) {
        let name = match &found.source {
            Source::File(path) => path.display().to_string(),
            keychain @ Source::Keychain(_) => keychain.to_string(),
        };
        let mut file = File {
            name: name.clone(),
            tool: None,
            entries: 0,
            error: None,
            problems: Vec::new(),
            settings: Vec::new(),
            unmatched: Vec::new(),
            open_to_others: found.open_to_others,
        };
        match found.reading {
            Err(trouble) => file.error = Some(said(&trouble)),
            Ok((format, reading)) => {
                file.tool = format.tool();
                file.entries = reading.entries.len();
                file.problems = reading.problems;
                file.settings = reading.settings;
                file.unmatched = reading.unmatched;
                self.entries.extend(reading.entries.into_iter().map(|entry| (entry, name.clone())));
            }
        }
        self.files.push(file);
    }

    fn take_environment(&mut self, variable: &dyn Fn(&str) -> Option<String>) {
        let reading = environment::read(variable);
        if reading.entries.is_empty() && reading.problems.is_empty() {
            return;
        }
        let name = "environment".to_owned();
        self.files.push(File {
            name: name.clone(),
            tool: Some(Tool::Environment),
            entries: reading.entries.len(),
            error: None,
            problems: reading.problems,
            settings: Vec::new(),
            unmatched: Vec::new(),
            open_to_others: None,
        });
        self.entries.extend(reading.entries.into_iter().map(|entry| (entry, name.clone())));
    }
}

fn said(trouble: &Trouble) -> String {
    trouble.to_string()
}
