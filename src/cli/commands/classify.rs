//! `classify`: classifies upstream responses without a daemon: JSON lines in, one JSON line for each out.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::{borrow::Cow, time::Duration};

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::cli::{context::Context, error::CliError, ui::format};
use crate::limits::{self, Classification, Headers, Reason, SHORTEST_HINT, Scope, UpstreamResponse, Verdict};
use crate::pool::{self, Action, millis};

/// Longer lines are rejected, in bytes; no body of that size is read anyway.
const MAX_LINE: u64 = 8 * 1024 * 1024;

#[derive(Debug, Args)]
pub(crate) struct ClassifyArgs {
    /// Also print the confidence, the evidence, a link to open, what lasts or is paid, and the quota windows
    #[arg(long)]
    evidence: bool,
}

/// A line of the input; unknown keys are ignored.
#[derive(Deserialize)]
struct ClassifyInput {
    #[serde(default)]
    provider: Option<String>,
    status: Value,
    #[serde(default)]
    headers: Option<Map<String, Value>>,
    #[serde(default)]
    body: Value,
    #[serde(default)]
    now: Option<f64>,
}

/// A line of the output.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ClassifyLine {
    /// Why the request was refused; null for a success.
    reason: Option<&'static str>,
    /// How far the refusal reaches: `request`, `model`, `pool`, `account` or `service`.
    scope: Option<&'static str>,
    /// The wait that the server stated, in ms, rounded up; null if it stated none.
    retry_after_ms: Option<u64>,
    /// Where the wait was stated: a field of the body, a header, or `prose`; `table` if it was not stated, `none` if
    /// there is no wait.
    source: String,
    /// The wait after a first failure, in ms; 0 if waiting does not help.
    wait_ms: u64,
    /// The next action, if other accounts are free: `continue`, `retry`, `switch` or `stop`.
    action: &'static str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    evidence: Option<ClassifyEvidence>,
}

/// With `--evidence`.
#[derive(Serialize, JsonSchema)]
struct ClassifyEvidence {
    /// The confidence in the reason: `certain`, `likely` or `guess`.
    confidence: Option<&'static str>,
    /// The part of the response that shows the reason.
    evidence: Option<String>,
    /// A page where the account's owner can mend the account.
    link: Option<String>,
    /// Whether the refusal names a state that lasts: a disabled account, a model that the plan lacks.
    lasting: bool,
    /// Whether this is a success that the account pays for beyond its plan.
    paid_overage: bool,
    /// The quota windows that the response shows.
    usage: Vec<ClassifyWindow>,
}

/// A quota window.
#[derive(Serialize, JsonSchema)]
struct ClassifyWindow {
    /// Its name.
    window: String,
    /// How much is used, from 0 to 1.
    utilization: Option<f64>,
    /// When it resets, in ms since 1970.
    resets_at: Option<u64>,
    /// What it applies to.
    scope: &'static str,
}

pub(super) fn execute(options: &ClassifyArgs, context: &Context) -> Result<u8, CliError> {
    let limits = context.config()?.pool.limits;
    let mut input = BufReader::with_capacity(1 << 16, io::stdin().lock());
    let mut output = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let (mut line, mut number, mut code) = (Vec::new(), 0_u64, 0);
    while read_line(&mut input, &mut line)? {
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match parse(&line) {
            Ok(input) => write(&mut output, &classify(&input, &limits, options.evidence))?,
            Err(why) => {
                context.output.note(&format!("line {number}: {why}"));
                write(&mut output, &json!({ "error": why }))?;
                code = 1;
            }
        }
        // a program that waits for each answer gets it at once
        if input.buffer().is_empty() {
            output.flush().map_err(|error| CliError::of_output(&error))?;
        }
    }
    output.flush().map_err(|error| CliError::of_output(&error))?;
    Ok(code)
}

/// Reads the next line; the rest of a line that is too long is skipped.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool, CliError> {
    let broken = |error: io::Error| CliError::internal(format!("reading the input: {error}"));
    line.clear();
    let read = input.by_ref().take(MAX_LINE + 1).read_until(b'\n', line).map_err(broken)?;
    if read as u64 > MAX_LINE && line.last() != Some(&b'\n') {
        input.skip_until(b'\n').map_err(broken)?;
    }
    Ok(read > 0)
}

fn parse(line: &[u8]) -> Result<ClassifyInput, String> {
    if line.len() as u64 > MAX_LINE {
        return Err(format!("longer than {MAX_LINE} bytes"));
    }
    let text = String::from_utf8_lossy(line);
    limits::lenient_json(text.trim()).map_err(|error| format!("not an upstream response: {error}")).and_then(
        |input: ClassifyInput| match input.status_code() {
            Some(_) => Ok(input),
            None => Err(format!("status must be a number from 0 to 999, not {}", input.status)),
        },
    )
}

impl ClassifyInput {
    fn status_code(&self) -> Option<u16> {
        let status = match &self.status {
            Value::String(text) => text.trim().parse().ok(),
            other => other.as_u64().and_then(|status| u16::try_from(status).ok()),
        };
        status.filter(|status| *status < 1000)
    }

    fn headers(&self) -> Headers {
        let named = self.headers.iter().flatten();
        Headers::telling(named.flat_map(|(name, value)| values(value).into_iter().map(move |value| (name, value))))
    }

    fn body(&self) -> Cow<'_, str> {
        match &self.body {
            Value::Null => Cow::Borrowed(""),
            Value::String(text) => Cow::Borrowed(text),
            document => Cow::Owned(document.to_string()),
        }
    }

    /// When the response arrived: the given time, else now.
    fn now(&self) -> u64 {
        self.now.filter(|now| now.is_finite() && *now >= 0.0).map_or_else(format::now, |now| now as u64)
    }
}

fn values(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Number(number) => vec![number.to_string()],
        Value::Bool(truth) => vec![truth.to_string()],
        Value::Array(list) => list.iter().filter(|one| !one.is_array()).flat_map(values).collect(),
        _ => Vec::new(),
    }
}

fn classify(input: &ClassifyInput, settings: &pool::LimitSettings, with_evidence: bool) -> ClassifyLine {
    let (headers, body) = (input.headers(), input.body());
    let reading = limits::classify(&UpstreamResponse {
        provider: input.provider.as_deref().unwrap_or_default(),
        status: input.status_code().unwrap_or_default(),
        headers: &headers,
        body: body.as_bytes(),
        now: input.now(),
    });
    let (action, wait) = match &reading.verdict {
        Some(verdict) => first_move(verdict, settings),
        None => (Action::Continue, Duration::ZERO),
    };
    let verdict = reading.verdict.as_ref();
    let source = match verdict {
        Some(verdict) if verdict.wait.is_none() && !wait.is_zero() => "table",
        Some(verdict) => verdict.source.name(),
        None => "none",
    };
    ClassifyLine {
        reason: verdict.map(|verdict| verdict.reason.name()),
        scope: verdict.map(|verdict| verdict.scope.name()),
        retry_after_ms: verdict.and_then(|verdict| verdict.wait).map(millis),
        source: source.to_owned(),
        wait_ms: millis(wait),
        action: action.name(),
        evidence: with_evidence.then(|| evidence(&reading)),
    }
}

/// The action after a first failure, and how long the limited account or model is not used.
fn first_move(verdict: &Verdict, settings: &pool::LimitSettings) -> (Action, Duration) {
    let wait = pool::first_wait(settings, verdict);
    let is_short = verdict.wait.is_none_or(|wait| wait <= SHORTEST_HINT);
    match (verdict.scope, verdict.reason) {
        (Scope::Request, Reason::RequestRejected) => (Action::Stop, wait),
        (Scope::Service, _) => (Action::Retry, wait),
        (_, Reason::RateLimitExceeded | Reason::Unknown) if !settings.switch_on_first_rate_limit && is_short => {
            (Action::Retry, settings.retry_delay)
        }
        _ => (Action::Switch, wait),
    }
}

fn evidence(reading: &Classification) -> ClassifyEvidence {
    let verdict = reading.verdict.as_ref();
    let usage = reading.windows.iter().map(|window| ClassifyWindow {
        window: window.name.clone(),
        utilization: window.utilization,
        resets_at: window.resets_at,
        scope: window.scope.name(),
    });
    ClassifyEvidence {
        confidence: verdict.map(|verdict| verdict.confidence.name()),
        evidence: verdict.map(|verdict| verdict.evidence.clone()),
        link: verdict.and_then(|verdict| verdict.link.clone()),
        lasting: verdict.is_some_and(|verdict| verdict.lasting),
        paid_overage: reading.paid_overage,
        usage: usage.collect(),
    }
}

fn write(output: &mut impl Write, line: &impl Serialize) -> Result<(), CliError> {
    serde_json::to_writer(&mut *output, line)
        .map_err(io::Error::from)
        .and_then(|()| output.write_all(b"\n"))
        .map_err(|error| CliError::of_output(&error))
}
