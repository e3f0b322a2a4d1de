//! `classify`: what upstreams' answers mean, told without a daemon. JSON lines in, one line for each out.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::time::Duration;

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::Config;
use crate::limits::{self, Classification, Headers, Reason, SHORTEST_HINT, Scope, UpstreamResponse, Verdict};
use crate::pool::{self, Action, millis};

use super::context::{self, Context};
use super::failure::Failure;

/// A longer line is not read; it could hold no body that is.
const LONGEST_LINE: u64 = 8 * 1024 * 1024;

/// `classify`
#[derive(Debug, Args)]
#[command(
    after_help = "Each line of the input: {\"provider\", \"status\", \"headers\": {}, \"body\": \"…\", \"now\": epoch ms}; \
                        all but the status may be left out. A line that cannot be read is answered with {\"error\"}, \
                        and the exit code is 1 in the end."
)]
pub(super) struct Classify {
    /// Also print how sure the reason is, what it was seen by, the link to open, and what was learnt of the quota
    #[arg(long)]
    evidence: bool,
}

/// An answer of an upstream; unknown keys are of no interest.
#[derive(Deserialize)]
struct Answer {
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

/// What an answer means.
#[derive(Serialize, JsonSchema)]
pub(super) struct Line {
    /// Why it refused; null for a success.
    reason: Option<&'static str>,
    /// How far the refusal reaches: `request`, `model`, `pool`, `account` or `service`.
    scope: Option<&'static str>,
    /// The wait that the server stated, rounded up; null when it stated none.
    retry_after_ms: Option<u64>,
    /// Where the wait was stated: a field of the body, a header, `prose`; `table` when it was not, `none` when there is
    /// no wait.
    source: String,
    /// What is waited after a first failure; 0 when no time helps.
    wait_ms: u64,
    /// What its holder does next, while other accounts are free: `continue`, `retry`, `switch` or `stop`.
    action: &'static str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    evidence: Option<Evidence>,
}

/// With `--evidence`.
#[derive(Serialize, JsonSchema)]
struct Evidence {
    /// How sure the reason is: `certain`, `likely` or `guess`.
    confidence: Option<&'static str>,
    /// What was seen.
    evidence: Option<String>,
    /// Where the account's owner must confirm something.
    link: Option<String>,
    /// What was learnt of the account's quota.
    usage: Vec<Usage>,
}

/// A window of a quota.
#[derive(Serialize, JsonSchema)]
struct Usage {
    /// Its name.
    window: String,
    /// How much is used, from 0 to 1.
    utilization: Option<f64>,
    /// When it starts anew, epoch ms.
    resets_at: Option<u64>,
    /// What it counts.
    scope: &'static str,
}

#[derive(Serialize)]
struct Unread<'a> {
    error: &'a str,
}

/// Answers every line of the standard input.
pub(super) fn classify(options: &Classify, context: &Context) -> Result<u8, Failure> {
    let places = context.places()?;
    let config = Config::load(&places.config).map_err(|errors| Failure::config(errors.to_string()))?.config;
    let limits = config.pool.limits;
    let mut input = BufReader::with_capacity(1 << 16, io::stdin().lock());
    let mut output = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let (mut line, mut number, mut code) = (Vec::new(), 0_u64, 0);
    while read_line(&mut input, &mut line)? {
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match answer(&line) {
            Ok(answer) => write(&mut output, &tell(&answer, &limits, options.evidence))?,
            Err(why) => {
                context.output.note(&format!("line {number}: {why}"));
                write(&mut output, &Unread { error: &why })?;
                code = 1;
            }
        }
        // whoever asks line by line is answered line by line
        if input.buffer().is_empty() {
            output.flush().map_err(|error| Failure::of_output(&error))?;
        }
    }
    output.flush().map_err(|error| Failure::of_output(&error))?;
    Ok(code)
}

/// Reads the next line, as far as it may go; the rest of a longer one is passed over.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool, Failure> {
    let broken = |error: io::Error| Failure::new("internal", format!("reading the input: {error}"));
    line.clear();
    let read = input.by_ref().take(LONGEST_LINE + 1).read_until(b'\n', line).map_err(broken)?;
    if read as u64 > LONGEST_LINE && line.last() != Some(&b'\n') {
        input.skip_until(b'\n').map_err(broken)?;
    }
    Ok(read > 0)
}

fn answer(line: &[u8]) -> Result<Answer, String> {
    if line.len() as u64 > LONGEST_LINE {
        return Err(format!("longer than {LONGEST_LINE} bytes"));
    }
    let text = String::from_utf8_lossy(line);
    limits::lenient_json(text.trim()).map_err(|error| format!("no answer of an upstream: {error}")).and_then(
        |answer: Answer| match answer.status_code() {
            Some(_) => Ok(answer),
            None => Err(format!("status must be a number from 0 to 999, not {}", answer.status)),
        },
    )
}

impl Answer {
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

    /// When it came: as it says, else now.
    fn now(&self) -> u64 {
        self.now.filter(|now| now.is_finite() && *now >= 0.0).map_or_else(context::now, |now| now as u64)
    }
}

/// A header's values: one, or several in a list.
fn values(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Number(number) => vec![number.to_string()],
        Value::Bool(truth) => vec![truth.to_string()],
        Value::Array(list) => list.iter().filter(|one| !one.is_array()).flat_map(values).collect(),
        _ => Vec::new(),
    }
}

fn tell(answer: &Answer, settings: &pool::LimitSettings, with_evidence: bool) -> Line {
    let (headers, body) = (answer.headers(), answer.body());
    let reading = limits::classify(&UpstreamResponse {
        provider: answer.provider.as_deref().unwrap_or_default(),
        status: answer.status_code().unwrap_or_default(),
        headers: &headers,
        body: body.as_bytes(),
        now: answer.now(),
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
    Line {
        reason: verdict.map(|verdict| verdict.reason.name()),
        scope: verdict.map(|verdict| verdict.scope.name()),
        retry_after_ms: verdict.and_then(|verdict| verdict.wait).map(millis),
        source: source.to_owned(),
        wait_ms: millis(wait),
        action: action.name(),
        evidence: with_evidence.then(|| evidence(&reading)),
    }
}

/// What a holder does after a first failure, and how long what failed is left alone.
fn first_move(verdict: &Verdict, settings: &pool::LimitSettings) -> (Action, Duration) {
    let wait = settings.backoff.wait(verdict.reason, verdict.wait, 0);
    let in_short = verdict.wait.is_none_or(|wait| wait <= SHORTEST_HINT);
    match (verdict.scope, verdict.reason) {
        (Scope::Request, Reason::RequestRejected) => (Action::Stop, wait),
        (Scope::Service, _) => (Action::Retry, wait),
        (_, Reason::RateLimitExceeded | Reason::Unknown) if !settings.switch_on_first_rate_limit && in_short => {
            (Action::Retry, settings.retry_delay)
        }
        _ => (Action::Switch, wait),
    }
}

fn evidence(reading: &Classification) -> Evidence {
    let verdict = reading.verdict.as_ref();
    let usage = reading.windows.iter().map(|window| Usage {
        window: window.name.clone(),
        utilization: window.utilization,
        resets_at: window.resets_at,
        scope: window.scope.name(),
    });
    Evidence {
        confidence: verdict.map(|verdict| verdict.confidence.name()),
        evidence: verdict.map(|verdict| verdict.evidence.clone()),
        link: verdict.and_then(|verdict| verdict.link.clone()),
        usage: usage.collect(),
    }
}

fn write(output: &mut impl Write, line: &impl Serialize) -> Result<(), Failure> {
    serde_json::to_writer(&mut *output, line)
        .map_err(io::Error::from)
        .and_then(|()| output.write_all(b"\n"))
        .map_err(|error| Failure::of_output(&error))
}
