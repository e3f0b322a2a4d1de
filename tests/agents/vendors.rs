//! Each vendor's API, as far as the agents and SDKs need it.

use serde_json::{Value, json};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vendor {
    Anthropic,
    Openai,
    Google,
}

/// A request of an agent.
#[derive(Debug)]
pub struct AgentRequest {
    /// It is sent to a model.
    pub is_generation: bool,
    pub run: Option<u64>,
    stream: bool,
    model: String,
    /// How many tool calls have results.
    done: usize,
    /// The tools to call next, and their arguments: one, or several sub-agents.
    calls: Vec<(&'static str, Value)>,
    /// The response must follow a schema.
    structured: bool,
    /// It is a request of Code Assist, with the real one inside.
    is_wrapped: bool,
}

/// Status, content type, body.
pub type VendorResponse = (u16, &'static str, String);

/// How many sub-agents are started by one message.
const SUBAGENTS_AT_ONCE: usize = 10;

const SSE: &str = "text/event-stream";
pub const JSON: &str = "application/json";

impl Vendor {
    /// The vendor in the first segment of the path, and the rest.
    pub fn of(path: &str) -> (Self, &str) {
        for (name, vendor) in [("/openai", Self::Openai), ("/google", Self::Google)] {
            if let Some(below) = path.strip_prefix(name) {
                return (vendor, below);
            }
        }
        (Self::Anthropic, path.strip_prefix("/anthropic").unwrap_or(path))
    }

    /// The response to a request that is not sent to a model.
    pub fn other(self, below: &str) -> VendorResponse {
        let tier = json!({"id": "standard-tier", "name": "Gemini Code Assist", "isDefault": true});
        match self {
            Self::Anthropic if below.ends_with("/count_tokens") => (200, JSON, r#"{"input_tokens":1}"#.to_owned()),
            Self::Google if below.ends_with(":countTokens") => (200, JSON, r#"{"totalTokens":1}"#.to_owned()),
            Self::Google if below.ends_with(":loadCodeAssist") => {
                let answer = json!({"currentTier": tier, "allowedTiers": [tier], "cloudaicompanionProject": "project"});
                (200, JSON, answer.to_string())
            }
            Self::Google if below.contains("/v1internal:") => (200, JSON, "{}".to_owned()),
            _ if below.ends_with("/models") => (200, JSON, r#"{"object":"list","data":[],"models":[]}"#.to_owned()),
            _ => (404, JSON, "{}".to_owned()),
        }
    }

    pub fn served(self, request: &AgentRequest) -> VendorResponse {
        match self {
            Self::Anthropic => anthropic(request),
            Self::Openai => openai(request),
            Self::Google => google(request),
        }
    }
}

impl AgentRequest {
    /// Reads a request; the prompt contains `RUN-n STEPS-n FILE=path`, and each step is a tool call that reads the file.
    /// `SUBAGENTS-n SUBSTEPS-n` starts so many sub-agents first, a few at a time, each with so many steps.
    pub fn read(vendor: Vendor, below: &str, body: &Value, text: &str) -> Self {
        let is_wrapped = below.contains("/v1internal:");
        let model = body["model"].as_str().unwrap_or("model").to_owned();
        let body = if is_wrapped { &body["request"] } else { body };
        let number = |mark: &str| {
            let from = text.find(mark)? + mark.len();
            let digits: String = text[from..].chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u64>().ok()
        };
        let file: String = text
            .split_once("FILE=")
            .map(|(_, rest)| rest.chars().take_while(|c| !matches!(c, ' ' | '"' | '\\' | '\n')).collect())
            .unwrap_or_default();
        let done = match vendor {
            Vendor::Anthropic => parts(body, "messages", "content", |part| part["type"] == "tool_result"),
            Vendor::Openai => items(&body["input"]).filter(|item| item["type"] == "function_call_output").count(),
            Vendor::Google => parts(body, "contents", "parts", |part| part.get("functionResponse").is_some()),
        };
        let has = |name: &str| tool_names(body).any(|found| found == name);
        let tools = [
            ("Read", json!({ "file_path": file })),
            ("read", json!({ "filePath": file })),
            ("exec_command", json!({ "cmd": format!("cat {file}") })),
            ("read_file", json!({ "file_path": file })),
        ];
        let is_next = number("STEPS-").is_some_and(|steps| (done as u64) < steps);
        let read = tools.into_iter().find(|(name, _)| is_next && has(name));
        let (subagents, steps) = (number("SUBAGENTS-").unwrap_or_default(), number("SUBSTEPS-").unwrap_or_default());
        let starts = |name: &&str| subagents > done as u64 && has(name);
        let calls = match ["Agent", "Task"].into_iter().find(starts) {
            Some(tool) => {
                let numbers = (done as u64..subagents).take(SUBAGENTS_AT_ONCE);
                let start = |n: u64| {
                    let prompt = format!("RUN-{} STEPS-{steps} FILE={file}", 100 + n);
                    json!({ "description": "a part", "prompt": prompt, "subagent_type": "general-purpose" })
                };
                numbers.map(|n| (tool, start(n))).collect()
            }
            None => read.into_iter().collect(),
        };
        Self {
            is_generation: match vendor {
                Vendor::Anthropic => below.ends_with("/messages"),
                Vendor::Openai => below.ends_with("/responses") || below.ends_with("/chat/completions"),
                Vendor::Google => below.ends_with("enerateContent"),
            },
            run: number("RUN-"),
            stream: body["stream"] == true || below.ends_with(":streamGenerateContent"),
            model,
            is_wrapped,
            done,
            calls,
            structured: body["generationConfig"].get("responseJsonSchema").is_some(),
        }
    }

    /// The run, if this request gets the final answer of it.
    pub fn finishes(&self) -> Option<u64> {
        self.run.filter(|_| self.is_generation && self.calls.is_empty())
    }

    /// An id that is unique per tool call.
    fn id(&self, kind: &str) -> String {
        format!("{kind}_{}_{}", self.run.unwrap_or_default(), self.done)
    }

    fn text(&self) -> String {
        if self.structured {
            // what Gemini CLI's router expects
            return r#"{"reasoning":"simple","model_choice":"flash","complexity_reasoning":"simple","complexity_score":1}"#
                .to_owned();
        }
        format!("FINISHED-RUN-{}", self.run.unwrap_or_default())
    }
}

/// The workspaces of a ChatGPT login.
pub fn workspaces(id: &str) -> VendorResponse {
    let one = json!({"id": id, "name": null, "structure": "personal", "plan_type": "plus",
        "account_user_role": "account-owner", "can_access_with_session": true, "is_deactivated": false,
        "workspace_backend_origin": "NO_CONSTRAINT", "account_routing_override": "NO_CONSTRAINT",
        "is_fedramp_compliant_workspace": false, "sso_connection_name": null, "profile_picture_url": null});
    (200, JSON, json!({"accounts": [one], "account_ordering": [id], "default_account_id": id}).to_string())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn parts(body: &Value, list: &str, below: &str, is_one: impl Fn(&Value) -> bool) -> usize {
    items(&body[list]).flat_map(|item| items(&item[below])).filter(|part| is_one(part)).count()
}

fn tool_names(body: &Value) -> impl Iterator<Item = &str> {
    items(&body["tools"])
        .flat_map(|tool| [tool].into_iter().chain(items(&tool["functionDeclarations"])))
        .filter_map(|tool| tool["name"].as_str())
}

/// Events in their wire format, each with its name if it has one.
fn stream(events: &[Value]) -> String {
    let event = |event: &Value| match event["type"].as_str() {
        Some(name) => format!("event: {name}\ndata: {event}\n\n"),
        None => format!("data: {event}\r\n\r\n"),
    };
    events.iter().map(event).collect()
}

fn anthropic(request: &AgentRequest) -> VendorResponse {
    let usage = json!({"input_tokens": 1, "output_tokens": 1});
    let id = |at: usize| format!("{}_{at}", request.id("toolu"));
    let tool = |(at, (name, input)): (usize, &(&str, Value))| {
        let start = json!({"type": "tool_use", "id": id(at), "name": name, "input": {}});
        let whole = json!({"type": "tool_use", "id": id(at), "name": name, "input": input});
        (whole, start, json!({"type": "input_json_delta", "partial_json": input.to_string()}))
    };
    let mut blocks: Vec<(Value, Value, Value)> = request.calls.iter().enumerate().map(tool).collect();
    let stop = if blocks.is_empty() { "end_turn" } else { "tool_use" };
    if blocks.is_empty() {
        let text = |text: String| json!({"type": "text", "text": text});
        let delta = json!({"type": "text_delta", "text": request.text()});
        blocks.push((text(request.text()), text(String::new()), delta));
    }
    let message = |content: Value, stop: Value| {
        json!({"id": "msg_1", "type": "message", "role": "assistant", "model": request.model, "content": content,
            "stop_reason": stop, "stop_sequence": null, "usage": usage})
    };
    if !request.stream {
        let content: Vec<Value> = blocks.into_iter().map(|(whole, ..)| whole).collect();
        return (200, JSON, message(json!(content), json!(stop)).to_string());
    }
    let mut events = vec![json!({"type": "message_start", "message": message(json!([]), Value::Null)})];
    for (index, (_, start, delta)) in blocks.into_iter().enumerate() {
        events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        events.push(json!({"type": "ping"}));
        events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    events
        .push(json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null}, "usage": usage}));
    events.push(json!({"type": "message_stop"}));
    (200, SSE, stream(&events))
}

fn openai(request: &AgentRequest) -> VendorResponse {
    let item = match request.calls.first() {
        Some((name, arguments)) => {
            json!({"type": "function_call", "id": request.id("fc"), "call_id": request.id("call"), "name": name,
            "arguments": arguments.to_string(), "status": "completed"})
        }
        None => json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": request.text(), "annotations": []}]}),
    };
    let response = |status: &str, output: Value| {
        json!({"id": "resp_1", "object": "response", "created_at": 1, "status": status, "model": request.model,
            "output": output, "parallel_tool_calls": true, "tool_choice": "auto", "tools": [],
            "usage": {"input_tokens": 1, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 1,
                "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 2}})
    };
    let done = response("completed", json!([item]));
    if !request.stream {
        return (200, JSON, done.to_string());
    }
    let mut events = vec![
        json!({"type": "response.created", "sequence_number": 0, "response": response("in_progress", json!([]))}),
        json!({"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": item}),
    ];
    if request.calls.is_empty() {
        events.push(json!({"type": "response.output_text.delta", "sequence_number": 2, "item_id": "msg_1",
            "output_index": 0, "content_index": 0, "delta": request.text(), "logprobs": []}));
    }
    events.push(json!({"type": "response.output_item.done", "sequence_number": 3, "output_index": 0, "item": item}));
    events.push(json!({"type": "response.completed", "sequence_number": 4, "response": done}));
    (200, SSE, stream(&events))
}

fn google(request: &AgentRequest) -> VendorResponse {
    let part = match request.calls.first() {
        Some((name, args)) => json!({"functionCall": {"name": name, "args": args}}),
        None => json!({"text": request.text()}),
    };
    let chunk = json!({
        "candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
        "modelVersion": "model"
    });
    let chunk = if request.is_wrapped { json!({ "response": chunk, "traceId": "1" }) } else { chunk };
    if request.stream { (200, SSE, stream(&[chunk])) } else { (200, JSON, chunk.to_string()) }
}
