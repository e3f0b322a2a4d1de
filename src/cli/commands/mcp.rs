//! `mcp`: a server of the Model Context Protocol on standard input and output, so that an agent that starts others can ask how
//! many. Its tools only read; their results are the documents of the commands with `--json`.

use std::io::{self, BufRead, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ErrorCode, Implementation, JsonObject, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::{RequestContext, RoleServer, ServiceExt};
use rmcp::{ErrorData, ServerHandler};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::runtime::{Builder, Handle};

use super::forecast::{self, ForecastArgs, ForecastReport};
use super::schema;
use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorDocument};
use crate::client::Client;
use crate::protocol::{DaemonStatus, ExplainInfo, ExplainParams};

/// The longest message of a client, in bytes.
const MAX_MESSAGE: u64 = 1 << 20;
/// What the server reads ahead, in bytes.
const BUFFER: usize = 64 << 10;
/// How long answers may take after the end of the input.
const LAST_ANSWERS: Duration = Duration::from_secs(60);

/// What a client reads of the whole server.
const INSTRUCTIONS: &str = "lessor leases LLM accounts to coding agents. Before starting sub-agents, call forecast for \
                            how many can start now. Times are milliseconds since 1970.";

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StatusArguments {}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ForecastArguments {
    /// A provider (anthropic, openai, google) or an agent (claude, codex, gemini); without it, all providers.
    provider: Option<String>,
    /// The model that the agents use.
    model: Option<String>,
    /// How many agents are to start: next_at says when that many can.
    #[schemars(range(min = 1))]
    count: Option<u32>,
    /// On these accounts only: ids, email addresses or labels.
    #[serde(default)]
    only: Vec<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExplainArguments {
    /// A lease id, an account, or LAST for the last decision (the default).
    what: Option<String>,
    /// For an account: the model to explain it for.
    model: Option<String>,
}

pub(super) fn execute(context: &Context) -> Result<(), CliError> {
    let failed = |error: io::Error| CliError::internal(format!("cannot serve: {error}"));
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let mut context = context.duplicate();
    // standard error is the client's log
    context.output.silent = true;
    let server = McpServer { context: Arc::new(context) };
    let (input, service_input) = tokio::io::duplex(BUFFER);
    let open = Arc::new(OpenRequests::default());
    let (handle, of_reader) = (runtime.handle().clone(), open.clone());
    thread::spawn(move || read_input(input, &handle, &of_reader));
    runtime.block_on(async move {
        // a client that leaves before it has said anything is no failure
        if let Ok(service) = server.serve((service_input, StandardOutput(open))).await {
            let _why_it_ended = service.waiting().await;
        }
    });
    // calls that still run do not keep the process alive
    runtime.shutdown_background();
    Ok(())
}

struct McpServer {
    context: Arc<Context>,
}

impl ServerHandler for McpServer {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("lessor", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult { tools: tools(), ..ListToolsResult::default() })
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let call = tool_call(&request.name, request.arguments.unwrap_or_default())?;
        let context = self.context.clone();
        let called = tokio::task::spawn_blocking(move || call.make(&context)).await;
        let result = called.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        Ok(CallToolResponse::Complete(match result {
            Ok(document) => CallToolResult::structured(document),
            // for the model: it may choose other arguments, or tell its user
            Err(error) => CallToolResult::structured_error(document(&ErrorDocument { error: &error.info })),
        }))
    }
}

fn tools() -> Vec<Tool> {
    vec![
        tool::<ForecastArguments, ForecastReport>(
            "forecast",
            "How many agents can start now (grantable), and for each provider how many (unshared of them each on an account \
             of its own), and when there is room for more (next_at; null: not known).",
        ),
        tool::<StatusArguments, DaemonStatus>(
            "status",
            "The accounts by state, leases, waiting requests, warnings, and for each provider how many accounts can \
             serve now.",
        ),
        tool::<ExplainArguments, ExplainInfo>(
            "explain",
            "Why an account was chosen or refused for a lease, with every account of the provider, its limits and until \
             when they last.",
        ),
    ]
}

fn tool<A: JsonSchema, R: JsonSchema>(name: &'static str, description: &'static str) -> Tool {
    let only_reads = ToolAnnotations::new().read_only(true).open_world(false);
    let mut tool =
        Tool::new(name, description, Arc::new(object(&schema::of_input::<A>()))).with_annotations(only_reads);
    tool.output_schema = Some(Arc::new(object(&schema::of::<R>())));
    tool
}

fn object(schema: &schemars::Schema) -> JsonObject {
    schema.as_object().cloned().unwrap_or_default()
}

/// A call of a tool, with its arguments.
#[derive(Debug)]
enum ToolCall {
    Status,
    Forecast(ForecastArgs),
    Explain(ExplainParams),
}

fn tool_call(name: &str, arguments: JsonObject) -> Result<ToolCall, ErrorData> {
    Ok(match name {
        "status" => {
            let StatusArguments {} = read_arguments(name, arguments)?;
            ToolCall::Status
        }
        "forecast" => {
            let ForecastArguments { provider, model, count, only } = read_arguments(name, arguments)?;
            if count == Some(0) {
                return Err(ErrorData::invalid_params("the arguments of forecast: count must be at least 1", None));
            }
            ToolCall::Forecast(ForecastArgs { word: provider, model, count, only })
        }
        "explain" => {
            let ExplainArguments { what, model } = read_arguments(name, arguments)?;
            ToolCall::Explain(ExplainParams { what, model, ..ExplainParams::default() })
        }
        other => return Err(ErrorData::invalid_params(format!("there is no tool {other:?}"), None)),
    })
}

fn read_arguments<T: DeserializeOwned>(name: &str, arguments: JsonObject) -> Result<T, ErrorData> {
    let read = serde_json::from_value(serde_json::Value::Object(arguments));
    read.map_err(|error| ErrorData::invalid_params(format!("the arguments of {name}: {error}"), None))
}

impl ToolCall {
    /// Asks the daemon, the next one if it is being restarted.
    fn make(self, context: &Context) -> Result<serde_json::Value, CliError> {
        match self {
            Self::Status => context.ask(Client::status).map(|status| document(&status)),
            Self::Forecast(of) => forecast::report(&of, context).map(|report| document(&report)),
            Self::Explain(what) => context.ask(|client| client.explain(what.clone())).map(|info| document(&info)),
        }
    }
}

fn document(of: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(of).unwrap_or_default()
}

/// The requests that have no answer yet.
#[derive(Debug, Default)]
struct OpenRequests {
    received: AtomicU64,
    answered: AtomicU64,
}

impl OpenRequests {
    fn are_answered(&self) -> bool {
        self.answered.load(Ordering::Acquire) >= self.received.load(Ordering::Acquire)
    }
}

/// Passes standard input on, a message a line; ends when it has ended and its requests are answered.
fn read_input(mut to: DuplexStream, runtime: &Handle, open: &OpenRequests) {
    let mut stdin = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        match stdin.by_ref().take(MAX_MESSAGE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) if line.last() != Some(&b'\n') && line.len() as u64 == MAX_MESSAGE => {
                let is_whole = skip_line(&mut stdin) && refuse_long().is_ok();
                if is_whole { continue } else { break }
            }
            Ok(_) => {}
        }
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        if is_request(&line) {
            open.received.fetch_add(1, Ordering::AcqRel);
        }
        if runtime.block_on(to.write_all(&line)).is_err() {
            return;
        }
    }
    let until = Instant::now() + LAST_ANSWERS;
    while !open.are_answered() && Instant::now() < until {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reads the rest of a line, without keeping it; answers whether the line has an end.
fn skip_line(input: &mut impl BufRead) -> bool {
    loop {
        let Ok(read) = input.fill_buf() else { return false };
        if read.is_empty() {
            return false;
        }
        let (end, length) = (memchr::memchr(b'\n', read), read.len());
        input.consume(end.map_or(length, |end| end + 1));
        if end.is_some() {
            return true;
        }
    }
}

/// The answer to a message that is too long to be read, also for its id.
fn refuse_long() -> io::Result<()> {
    let message = format!("a message must not be larger than {MAX_MESSAGE} bytes");
    let error = serde_json::json!({ "code": ErrorCode::INVALID_REQUEST.0, "message": message });
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", serde_json::json!({ "jsonrpc": "2.0", "id": null, "error": error }))?;
    stdout.flush()
}

/// Whether a message gets an answer.
fn is_request(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Head {
        id: Option<serde_json::Value>,
        method: Option<String>,
    }
    serde_json::from_slice::<Head>(line).is_ok_and(|head| head.id.is_some() && head.method.is_some())
}

/// Standard output; each line is an answer.
struct StandardOutput(Arc<OpenRequests>);

impl AsyncWrite for StandardOutput {
    fn poll_write(self: Pin<&mut Self>, _: &mut std::task::Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
        let answers = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.0.answered.fetch_add(answers, Ordering::AcqRel);
        Poll::Ready(written.map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_is_described_by_objects_and_can_be_called() {
        for tool in tools() {
            assert_eq!(tool.input_schema["type"], "object", "{}", tool.name);
            assert_eq!(tool.output_schema.as_ref().unwrap()["type"], "object", "{}", tool.name);
            assert!(tool.description.as_ref().unwrap().len() < 200, "{}", tool.name);
            let arguments = serde_json::json!({ "provider": "claude" });
            let arguments = if tool.name == "forecast" { arguments } else { serde_json::json!({}) };
            tool_call(&tool.name, arguments.as_object().cloned().unwrap()).unwrap();
        }
        let unknown = serde_json::json!({ "provider": "claude", "cuont": 3 });
        assert!(tool_call("forecast", unknown.as_object().cloned().unwrap()).is_err());
        assert!(tool_call("account.remove", JsonObject::new()).is_err());
        match tool_call("forecast", serde_json::json!({ "provider": "claude" }).as_object().cloned().unwrap()) {
            Ok(ToolCall::Forecast(of)) => assert_eq!(of.word.as_deref(), Some("claude")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_requests_are_waited_for() {
        assert!(is_request(br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#));
        for line in [r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, r#"{"id":1,"result":{}}"#, "x", ""] {
            assert!(!is_request(line.as_bytes()), "{line}");
        }
    }
}
