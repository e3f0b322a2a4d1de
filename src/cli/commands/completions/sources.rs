//! Which values an argument may have, from the daemon that runs, the configuration and the tables of this program.

use std::ffi::OsStr;
use std::sync::mpsc;
use std::time::Duration;

use clap::{Arg, Command};
use clap_complete::CompletionCandidate;
use clap_complete::engine::{ArgValueCompleter, PathCompleter, ValueCompleter};

use crate::cli::{launch::shims, ui};
use crate::client::{Client, ClientError};
use crate::config::{AppPaths, Config, Flags, KEYS, ValueKind, format_key};
use crate::credential::LoginProgram;
use crate::daemon::lock;
use crate::protocol::{AccountInfo, LeaseRow, ListAccountsParams, ListSecretsParams};
use crate::provider::PROVIDERS;
use crate::visible;

/// How long the daemon has for its answer.
const PATIENCE: Duration = Duration::from_millis(250);
/// How many letters of the ids of leases are shown at least, as in `lessor leases`.
const LEASE_LETTERS: usize = 12;

/// What an argument names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Named {
    Account,
    AgentOrProvider,
    Agent,
    CommandLine,
    CommandWords,
    ConfigKey,
    ConfigValue,
    GatewayKey,
    Lease,
    LeaseOrAccount,
    LoginProgramOrProvider,
    Model,
    PoolChange,
    PoolHost,
    Provider,
    StoredClient,
    Tool,
}

impl Named {
    /// By the id of an argument and the name of its value; `command` is the full name of its command.
    fn by(command: &str, argument: &Arg) -> Option<Self> {
        let value = argument.get_value_names().unwrap_or_default().join(" ");
        Some(match argument.get_id().as_str() {
            "account" | "exclude" | "only" => Self::Account,
            "to" if command == "move" => Self::Account,
            "provider" if value == "PROVIDER" && command == "token" => Self::AgentOrProvider,
            "provider" if command == "login" => Self::LoginProgramOrProvider,
            "provider" => Self::Provider,
            "word" | "agent_or_provider" => Self::AgentOrProvider,
            "agent" | "agents" => Self::Agent,
            "model" => Self::Model,
            "name" if command.starts_with("secrets") => Self::StoredClient,
            "lease" => Self::Lease,
            "key" if command.starts_with("config") => Self::ConfigKey,
            "key" if command.starts_with("gateway") => Self::GatewayKey,
            "changes" if command == "pool set" => Self::PoolChange,
            "host" if command.starts_with("pool") => Self::PoolHost,
            "value" if command.starts_with("config") => Self::ConfigValue,
            "from" if value == "TOOL" => Self::Tool,
            "command" if command == "run" => Self::CommandLine,
            "command" if matches!(command, "man" | "schema") => Self::CommandWords,
            _ if value == "A" => Self::Account,
            _ if value.starts_with("LEASE") && value.contains("ACCOUNT") => Self::LeaseOrAccount,
            _ if value.starts_with("LEASE") => Self::Lease,
            _ => return None,
        })
    }
}

/// The grammar, with the values of its arguments; `words` are those of the line.
pub(super) fn attach(grammar: Command, words: &[String]) -> Command {
    let line = CompletedLine { flags: flags(words), words: words.to_vec(), commands: command_words(&grammar, words) };
    attach_below(grammar, "", &line)
}

fn attach_below(command: Command, name: &str, line: &CompletedLine) -> Command {
    let command = command.mut_args(|argument| match Named::by(name, &argument) {
        Some(named) => argument.add(ArgValueCompleter::new(Values { named, line: line.clone() })),
        None => argument,
    });
    command.mut_subcommands(|below| {
        let name = format!("{name} {}", below.get_name());
        attach_below(below, name.trim_start(), line)
    })
}

/// `--config` and `--socket` of the line.
fn flags(words: &[String]) -> Flags {
    let value = |name: &str| {
        words.iter().enumerate().find_map(|(index, word)| match word.strip_prefix(name)? {
            "" => words.get(index + 1).cloned(),
            value => value.strip_prefix('=').map(str::to_owned),
        })
    };
    Flags { config: value("--config").map(Into::into), socket: value("--socket").map(Into::into) }
}

/// What can follow the words after `man` or `schema`: the commands below the one that they name.
fn command_words(grammar: &Command, words: &[String]) -> Vec<(String, String)> {
    let before = words.len().saturating_sub(1);
    let mut path = words[..before].iter().skip(1).filter(|word| !word.starts_with('-')).skip(1);
    let end = path.try_fold(grammar, |command, word| command.find_subcommand(word));
    let below = end.into_iter().flat_map(Command::get_subcommands).filter(|below| !below.is_hide_set());
    let about = |below: &Command| below.get_about().map(ToString::to_string).unwrap_or_default();
    below.map(|below| (below.get_name().to_owned(), about(below))).collect()
}

#[derive(Clone)]
struct CompletedLine {
    flags: Flags,
    words: Vec<String>,
    /// The commands that a word can name, and what they do.
    commands: Vec<(String, String)>,
}

/// The values of one argument.
struct Values {
    named: Named,
    line: CompletedLine,
}

impl ValueCompleter for Values {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        self.complete_at(0, current)
    }

    fn complete_at(&self, _index: usize, current: &OsStr) -> Vec<CompletionCandidate> {
        let is_program = matches!(self.named, Named::CommandLine | Named::AgentOrProvider);
        if is_program && self.line.behind_dashes().is_some_and(|words| words > 0) {
            return PathCompleter::any().complete(current);
        }
        // fish passes the word as it is typed
        let typed = current.to_string_lossy().replace(['\'', '"', '\\'], "");
        let mut found = self.line.values(self.named, &typed);
        found.retain(|one| {
            let value = one.get_value().to_string_lossy();
            value.replace(['\'', '"', '\\'], "").starts_with(&typed) && !value.contains(visible::is_hidden)
        });
        found
    }
}

impl CompletedLine {
    fn values(&self, named: Named, typed: &str) -> Vec<CompletionCandidate> {
        match named {
            Named::Account => self.accounts(typed),
            Named::Agent => names(shims::agents()),
            Named::AgentOrProvider if self.behind_dashes().is_some() => names(shims::agents()),
            Named::AgentOrProvider => names(shims::agents()).into_iter().chain(self.providers()).collect(),
            Named::CommandLine => names(shims::agents()),
            Named::CommandWords => self.commands.iter().map(|(name, about)| candidate(name, about)).collect(),
            Named::ConfigKey => self.config_keys(),
            Named::ConfigValue => self.config_values(),
            Named::GatewayKey => self.gateway_keys(),
            Named::Lease => self.leases(),
            Named::LeaseOrAccount => {
                let last = CompletionCandidate::new("LAST").help(Some("the last decision".into()));
                std::iter::once(last).chain(self.leases()).chain(self.accounts(typed)).collect()
            }
            Named::Model => self.models(),
            Named::LoginProgramOrProvider => {
                names(LoginProgram::ALL.map(LoginProgram::name)).into_iter().chain(self.providers()).collect()
            }
            Named::PoolChange => {
                ["per_account=", "max_per_account=", "overflow=wait", "overflow=fail", "overflow=share"]
                    .map(CompletionCandidate::new)
                    .into()
            }
            Named::PoolHost => self.pool_hosts(),
            Named::Provider => self.providers(),
            Named::StoredClient => self.stored_clients(),
            Named::Tool => names(crate::credential::import::Tool::ALL.map(crate::credential::import::Tool::name)),
        }
    }

    /// How many words are between `--` and the word to be completed.
    fn behind_dashes(&self) -> Option<usize> {
        let dashes = self.words.iter().position(|word| word == "--")?;
        (self.words.len() - dashes).checked_sub(2)
    }

    /// What people call each account; its other names once the beginning of one is typed.
    fn accounts(&self, typed: &str) -> Vec<CompletionCandidate> {
        let accounts = self.list_accounts();
        let mut found = Vec::new();
        for account in &accounts {
            let help = format!("{}, {}", account.provider, ui::account::state(account));
            let is_clear = |name: &&&String| {
                let others = accounts.iter().filter(|other| other.id != account.id);
                // only the id names one of two accounts of the same name, or shows what is invisible
                !name.contains(visible::is_hidden)
                    && !others
                        .flat_map(|other| [&other.label, &other.email])
                        .any(|other| other.as_ref() == Some(**name))
            };
            let mut names: Vec<&String> = [&account.label, &account.email].into_iter().flatten().collect();
            names = names.iter().filter(is_clear).copied().collect();
            names.push(&account.id);
            let shown = if typed.is_empty() { 1 } else { names.len() };
            names.truncate(shown);
            found.extend(names.into_iter().map(|name| candidate(name, &help)));
        }
        found
    }

    fn list_accounts(&self) -> Vec<AccountInfo> {
        self.ask(|client| client.accounts(ListAccountsParams::default())).unwrap_or_default()
    }

    fn leases(&self) -> Vec<CompletionCandidate> {
        let leases = self.ask(Client::leases).unwrap_or_default();
        let letters = distinct_letters(&leases);
        let help = |row: &LeaseRow| {
            let account = ui::account::label(&row.account);
            match row.holder.as_ref() {
                Some(holder) => {
                    let program = holder.program.as_deref().unwrap_or("a process");
                    format!("{account}, {program} (pid {})", holder.pid)
                }
                None => account.to_owned(),
            }
        };
        leases.iter().map(|row| candidate(row.lease.get(..letters).unwrap_or(&row.lease), &help(row))).collect()
    }

    /// Models that the daemon has heard of.
    fn models(&self) -> Vec<CompletionCandidate> {
        let leases = self.ask(Client::leases).unwrap_or_default();
        let mut models: Vec<String> = leases.into_iter().filter_map(|row| row.model).collect();
        models.sort();
        models.dedup();
        names(models)
    }

    fn gateway_keys(&self) -> Vec<CompletionCandidate> {
        let keys = self.ask(Client::gateway_keys).unwrap_or_default();
        let valid = keys.iter().filter(|key| key.state == "valid");
        valid.map(|key| candidate(&key.id, key.label.as_deref().unwrap_or_default())).collect()
    }

    fn pool_hosts(&self) -> Vec<CompletionCandidate> {
        let hosts = self.ask(Client::pool_hosts).unwrap_or_default();
        hosts.iter().filter(|host| !host.this).map(|host| candidate(&host.name, &host.state)).collect()
    }

    fn stored_clients(&self) -> Vec<CompletionCandidate> {
        let clients = self.ask(|client| client.stored_clients(ListSecretsParams::default())).unwrap_or_default();
        clients.iter().map(|client| candidate(&client.name, client.client_id.as_deref().unwrap_or_default())).collect()
    }

    fn providers(&self) -> Vec<CompletionCandidate> {
        let mut all: Vec<String> = PROVIDERS.iter().map(|provider| provider.name.to_owned()).collect();
        all.extend(self.configured_providers().into_iter().filter(|name| built_in(name).is_none()));
        names(all)
    }

    fn configured_providers(&self) -> Vec<String> {
        let config = AppPaths::from_process(&self.flags).ok().and_then(|paths| Config::load(&paths.config).ok());
        config.map(|loaded| loaded.config.providers.keys().cloned().collect()).unwrap_or_default()
    }

    /// Every key; those of named sections with the names of accounts and providers.
    fn config_keys(&self) -> Vec<CompletionCandidate> {
        let mut found = Vec::new();
        let accounts: Vec<String> =
            self.list_accounts().iter().map(|account| ui::account::name(account).to_owned()).collect();
        let mut providers: Vec<String> = PROVIDERS.iter().map(|provider| provider.name.to_owned()).collect();
        providers.extend(self.configured_providers().into_iter().filter(|name| built_in(name).is_none()));
        for key in KEYS {
            let parts: Vec<&str> = key.key.split('.').collect();
            let sections: Vec<&str> = match (parts[0], parts.iter().filter(|part| **part == "*").count()) {
                (_, 0) => vec![""],
                ("accounts", 1) => accounts.iter().map(String::as_str).collect(),
                ("providers", 1) => providers.iter().map(String::as_str).collect(),
                // of a name that only the file has
                _ => Vec::new(),
            };
            for section in sections {
                let path: Vec<&str> = parts.iter().map(|part| if *part == "*" { section } else { part }).collect();
                found.push(candidate(&format_key(&path), key.doc));
            }
        }
        found
    }

    /// The values of the key before: words and truth values, else its default.
    fn config_values(&self) -> Vec<CompletionCandidate> {
        let before = self.words.len().checked_sub(2).and_then(|index| self.words.get(index));
        let row = before.and_then(|name| KEYS.iter().find(|key| matches(key.key, name)));
        match row.map(|row| (row.kind, row.default)) {
            Some((ValueKind::Bool, _)) => names(["true", "false"]),
            Some((ValueKind::OneOf(words), _)) => names(words.iter().copied()),
            Some((ValueKind::Variable, _)) | None => Vec::new(),
            Some((_, default)) => default
                .filter(|default| !default.is_empty())
                .map(|default| candidate(default, "default"))
                .into_iter()
                .collect(),
        }
    }

    /// Asks the daemon that runs; `None` if there is none, or it does not answer soon.
    fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Client) -> Result<T, ClientError> + Send + 'static,
    ) -> Option<T> {
        let places = AppPaths::from_process(&self.flags).ok()?;
        // where a service manager holds the socket, connecting would start a daemon
        if !lock::is_held(&places.lock) {
            return None;
        }
        let (answer, answered) = mpsc::channel();
        std::thread::Builder::new()
            .spawn(move || {
                let found = Client::connect(&places).and_then(|mut client| call(&mut client));
                let _too_late = answer.send(found.ok());
            })
            .ok()?;
        answered.recv_timeout(PATIENCE).ok().flatten()
    }
}

fn built_in(name: &str) -> Option<&'static crate::provider::Provider> {
    crate::provider::built_in(name)
}

/// Whether a key of the table, with `*` for names, is the key that was typed.
fn matches(pattern: &str, typed: &str) -> bool {
    let (mut pattern, mut typed) = (pattern.split('.').rev(), typed.rsplit('.'));
    // names may contain dots: the parts behind the name decide, and the section
    loop {
        match (pattern.next(), typed.next()) {
            (Some("*"), Some(_)) => return typed.next_back().is_none_or(|first| Some(first) == pattern.next_back()),
            (Some(one), Some(other)) if one == other => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

fn names<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Vec<CompletionCandidate> {
    names.into_iter().map(|name| CompletionCandidate::new(name.into())).collect()
}

fn candidate(value: &str, help: &str) -> CompletionCandidate {
    let help = (!help.is_empty()).then(|| help.to_owned().into());
    CompletionCandidate::new(value).help(help)
}

/// How many letters of the ids make them distinct.
fn distinct_letters(leases: &[LeaseRow]) -> usize {
    let common = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let mut ids: Vec<&str> = leases.iter().map(|row| row.lease.as_str()).collect();
    ids.sort_unstable();
    ids.windows(2).map(|pair| common(pair[0], pair[1]) + 1).max().unwrap_or(0).max(LEASE_LETTERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_of_the_line_say_which_daemon_is_asked() {
        let words = ["lessor", "--socket=/s", "--config", "/c", "account", ""].map(str::to_owned);
        assert_eq!(flags(&words), Flags { config: Some("/c".into()), socket: Some("/s".into()) });
        assert_eq!(flags(&["lessor".to_owned(), "--config".to_owned()]), Flags::default());
    }

    #[test]
    fn keys_of_named_sections_are_recognised() {
        for (pattern, typed, is_it) in [
            ("leases.ttl", "leases.ttl", true),
            ("leases.ttl", "leases.tt", false),
            ("accounts.*.use", "accounts.work.use", true),
            ("accounts.*.use", "accounts.\"a@b.c\".use", true),
            ("providers.*.mix", "accounts.work.mix", false),
        ] {
            assert_eq!(matches(pattern, typed), is_it, "{pattern} {typed}");
        }
    }
}
