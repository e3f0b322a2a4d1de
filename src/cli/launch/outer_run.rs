//! `LESSOR_RUN`: what `run` hands to the runs that its command starts. It contains no secret.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::hash::Hasher as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128 as _, SipHasher24};

use super::{LeaseOptions, working_directory};
use crate::daemon::find_process;
use crate::pool::{Process, millis};
use crate::protocol::AcquireParams;

/// The variable.
pub(crate) use crate::client::RUN as VARIABLE;
/// A program that starts itself through lessor without end is stopped after so many runs inside each other.
const DEEPEST: u32 = 32;

/// A run, as the runs that its command starts see it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OuterRun {
    /// The process of the run, which has become its command.
    pid: u32,
    start: u64,
    /// The agent that its leases are for.
    pub(crate) agent: Option<String>,
    /// Whether the command is that agent: it uses the leases itself. Otherwise it is a script.
    pub(crate) is_agent: bool,
    /// The providers that it is for, also those of which it has no lease.
    pub(crate) providers: Vec<String>,
    /// The directory that says which agent of the script uses the script's own leases.
    pub(crate) claims: Option<PathBuf>,
    /// Fingerprints of the variables that it has set, by name.
    set: BTreeMap<String, String>,
    /// Arguments that it has added to the command.
    pub(crate) arguments: Vec<String>,
    pub(crate) quiet: bool,
    pub(crate) direct: bool,
    options: InheritedOptions,
    /// The files that this process has been, in runs of an agent: an agent's file that calls lessor again is not started
    /// twice.
    pub(crate) programs: Vec<PathBuf>,
    depth: u32,
    /// The launcher of Claude Code's processes that the user has set, with its arguments.
    pub(crate) process_wrapper: Vec<String>,
}

/// Options for the leases of inner runs.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct InheritedOptions {
    model: Option<String>,
    pool: Option<String>,
    session: Option<String>,
    label: Option<String>,
    account: Option<String>,
    wait_ms: Option<u64>,
    only: Vec<String>,
    /// Where the run was started.
    directory: Option<String>,
}

impl OuterRun {
    /// The run that has started this process or one above it.
    pub(crate) fn of_this_process() -> Option<Self> {
        Self::parse(&std::env::var(VARIABLE).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // one of another version may say other things
        serde_json::from_str(text).ok()
    }

    /// The run of this process, inside `outer`.
    pub(crate) fn new(process: Process, options: &LeaseOptions, outer: Option<&Self>) -> Self {
        Self {
            pid: process.pid,
            start: process.start,
            options: InheritedOptions {
                model: options.model.clone(),
                pool: options.pool.clone(),
                session: options.session.clone(),
                label: options.label.clone(),
                account: options.account.clone(),
                wait_ms: options.wait.map(millis),
                only: options.only.clone(),
                directory: working_directory(),
            },
            set: outer.map(|outer| outer.set.clone()).unwrap_or_default(),
            depth: outer.map_or(0, |outer| outer.depth + 1),
            ..Self::default()
        }
    }

    pub(crate) fn process(&self) -> Process {
        Process { pid: self.pid, start: self.start }
    }

    /// Whether the process of this run still runs.
    pub(crate) fn is_alive(&self) -> bool {
        find_process(self.pid).ok().flatten().is_some_and(|found| found.process == self.process())
    }

    pub(crate) fn is_too_deep(&self) -> bool {
        self.depth >= DEEPEST
    }

    /// Remembers the value of a variable, by a fingerprint.
    pub(crate) fn remember(&mut self, name: &str, value: &OsStr) {
        self.set.insert(name.to_owned(), fingerprint(name, value));
    }

    /// Whether this run, or one outside it, has set the variable to this value.
    pub(crate) fn has_set(&self, name: &str, value: &OsStr) -> bool {
        self.set.get(name).is_some_and(|known| *known == fingerprint(name, value))
    }

    /// Adds what an inner run for `provider` takes over: what is not given for it. Of the options that name something of
    /// a provider, only those of the same provider make sense; the session is that of the script's own lease, if it has
    /// one.
    pub(crate) fn complete(&self, options: &mut LeaseOptions, providers: &[String]) {
        let outer = &self.options;
        let take = |own: &mut Option<String>, theirs: &Option<String>| {
            if own.is_none() {
                own.clone_from(theirs);
            }
        };
        take(&mut options.label, &outer.label);
        // a set has accounts of any provider, and none but those may be used
        if options.only.is_empty() {
            options.only.clone_from(&outer.only);
        }
        options.wait = options.wait.or(outer.wait_ms.map(Duration::from_millis));
        if !providers.iter().all(|provider| self.providers.contains(provider)) {
            return;
        }
        if options.pool.is_none() && options.account.is_none() {
            take(&mut options.model, &outer.model);
            take(&mut options.pool, &outer.pool);
        }
        take(&mut options.account, &outer.account);
        if self.claims.is_none() && !self.is_agent {
            take(&mut options.session, &outer.session);
        }
    }

    /// Whether a lease of this run is what an inner run requests: it has nothing else in mind.
    pub(crate) fn leases_as(&self, request: &AcquireParams) -> bool {
        let is_same = |theirs: &Option<String>, own: &Option<String>| theirs.is_none() || theirs == own;
        is_same(&request.model, &self.options.model)
            && is_same(&request.pool, &self.options.pool)
            && is_same(&request.session, &self.options.session)
            && request.only.as_deref().unwrap_or_default() == self.options.only
    }

    /// The directory in which it was started.
    pub(crate) fn directory(&self) -> Option<&str> {
        self.options.directory.as_deref()
    }

    /// Removes the arguments that this run has added to a launcher (`env codex`): the inner run adds its own.
    pub(crate) fn take_back(&self, arguments: &mut Vec<OsString>) {
        let begins_at = arguments.len().saturating_sub(self.arguments.len());
        let last = arguments[begins_at..].iter().map(|argument| argument.to_string_lossy());
        if last.eq(self.arguments.iter().map(String::as_str)) {
            arguments.truncate(begins_at);
        }
    }

    /// The value of the variable.
    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn fingerprint(name: &str, value: &OsStr) -> String {
    let mut hasher = SipHasher24::new();
    hasher.write(name.as_bytes());
    hasher.write(b"\0");
    hasher.write(value.as_encoded_bytes());
    format!("{:032x}", hasher.finish128().as_u128())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(label: &str) -> LeaseOptions {
        LeaseOptions { label: Some(label.to_owned()), ..LeaseOptions::default() }
    }

    #[test]
    fn variables_of_an_outer_run_are_known_by_their_value_and_not_readable() {
        let process = Process { pid: 1, start: 2 };
        let mut outer = OuterRun::new(process, &options("x"), None);
        outer.remember("KEY", OsStr::new("lk_secret"));
        let text = outer.to_text();
        assert!(!text.contains("lk_secret"), "{text}");
        let read = OuterRun::parse(&text).unwrap();
        assert_eq!(read, outer);
        assert!(read.has_set("KEY", OsStr::new("lk_secret")));
        assert!(!read.has_set("KEY", OsStr::new("mine")) && !read.has_set("OTHER", OsStr::new("lk_secret")));
        // and by the runs inside of it
        assert!(OuterRun::new(process, &options("x"), Some(&read)).has_set("KEY", OsStr::new("lk_secret")));
        assert_eq!(OuterRun::parse("{"), None);
        assert!(OuterRun::parse("{\"of_tomorrow\":1}").is_some());
    }

    #[test]
    fn arguments_of_the_outer_run_are_taken_back() {
        let outer = OuterRun { arguments: vec!["-c".into(), "x".into()], ..OuterRun::default() };
        for (given, rest) in [("exec -c x", "exec"), ("-c x", ""), ("-c x exec", "-c x exec"), ("x", "x"), ("", "")] {
            let mut arguments: Vec<OsString> = given.split_whitespace().map(OsString::from).collect();
            outer.take_back(&mut arguments);
            assert_eq!(arguments, rest.split_whitespace().map(OsString::from).collect::<Vec<_>>(), "{given}");
        }
    }

    #[test]
    fn an_inner_run_takes_over_what_applies_to_its_provider() {
        let given = LeaseOptions {
            model: Some("m".into()),
            account: Some("work".into()),
            session: Some("s".into()),
            wait: Some(Duration::from_secs(3)),
            ..options("fleet")
        };
        let mut outer = OuterRun::new(Process { pid: 1, start: 2 }, &given, None);
        outer.providers = vec!["anthropic".into()];
        let completed = |outer: &OuterRun, own: LeaseOptions, provider: &str| {
            let mut own = own;
            outer.complete(&mut own, &[provider.to_owned()]);
            (own.model, own.account, own.session, own.label, own.wait.map(|wait| wait.as_secs()))
        };
        let text = |text: &str| Some(text.to_owned());
        let none = LeaseOptions::default;
        assert_eq!(
            completed(&outer, none(), "anthropic"),
            (text("m"), text("work"), text("s"), text("fleet"), Some(3)),
            "the script has no lease of its own"
        );
        assert_eq!(completed(&outer, none(), "openai"), (None, None, None, text("fleet"), Some(3)));
        assert_eq!(completed(&outer, options("mine"), "openai").3, text("mine"));
        let listed = LeaseOptions { only: vec!["work".into(), "spare".into()], ..none() };
        let set = OuterRun::new(Process { pid: 1, start: 2 }, &listed, None);
        for (own, expected) in
            [(none(), vec!["work", "spare"]), (LeaseOptions { only: vec!["x".into()], ..none() }, vec!["x"])]
        {
            let mut own = own;
            set.complete(&mut own, &["openai".to_owned()]);
            assert_eq!(own.only, expected, "of any provider");
            assert_eq!(set.leases_as(&own.into_request()), expected.len() == 2);
        }
        outer.claims = Some("/claims".into());
        assert_eq!(completed(&outer, none(), "anthropic").2, None, "the session is on the script's own lease");
    }
}
