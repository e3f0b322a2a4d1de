//! `mcp`: raw messages of the Model Context Protocol over standard input and output; and `forecast`, whose document its
//! tool answers.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use super::support::Home;

/// A server, and its client.
struct Server {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    fn start(home: &Home, options: &[&str]) -> Self {
        let mut command = home.command(&[options, &["mcp"]].concat());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut server = Self { child, stdin, stdout };
        let hello = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } });
        let answer = server.request("initialize", hello);
        assert_eq!(answer["result"]["serverInfo"]["name"], "lessor", "{answer}");
        server.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        server
    }

    fn send(&mut self, message: &Value) {
        self.stdin.write_all(format!("{message}\n").as_bytes()).unwrap();
    }

    fn request(&mut self, method: &str, params: Value) -> Value {
        self.send(&json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params }));
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.request("tools/call", json!({ "name": tool, "arguments": arguments }));
        assert!(answer["error"].is_null(), "{answer}");
        answer["result"].clone()
    }
}

#[test]
fn the_tools_answer_what_the_commands_print_and_follow_the_daemon() {
    let home = Home::with_keys(&[("anthropic", "work"), ("anthropic", "home")]);
    let mut server = Server::start(&home, &[]);
    let tools = server.request("tools/list", json!({}))["result"]["tools"].clone();
    let names: Vec<&str> = tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["forecast", "status", "explain"]);
    for tool in tools.as_array().unwrap() {
        assert_eq!(tool["annotations"]["readOnlyHint"], true, "{tool}");
        assert!(tool["inputSchema"]["type"] == "object" && tool["outputSchema"]["type"] == "object", "{tool}");
    }
    let forecast = server.call("forecast", json!({ "provider": "claude", "count": 3 }));
    assert_eq!(forecast["structuredContent"], home.json(&["forecast", "anthropic", "--count", "3"]));
    assert_eq!(forecast["structuredContent"]["providers"][0]["unshared"], 2);
    let text = forecast["content"][0]["text"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), forecast["structuredContent"]);
    assert_eq!(server.call("explain", json!({ "what": "work" }))["structuredContent"]["account"]["label"], "work");
    let status = server.call("status", json!({}));
    assert_eq!(status["structuredContent"]["accounts"]["ready"], 2);
    assert!(!status.to_string().contains("sk-canary"), "no secret");

    // what the model can mend is a result; what is no call of a tool is an error
    let refused = server.call("forecast", json!({ "provider": "nowhere" }));
    assert_eq!(
        (&refused["isError"], &refused["structuredContent"]["error"]["data"]["kind"]),
        (&json!(true), &json!("unknown_provider"))
    );
    for (tool, arguments) in [("forecast", json!({ "count": 0 })), ("status", json!({ "x": 1 })), ("stop", json!({}))] {
        let answer = server.request("tools/call", json!({ "name": tool, "arguments": arguments }));
        assert_eq!(answer["error"]["code"], -32602, "{tool}: {answer}");
    }

    home.run(&["restart"]).ok();
    assert_eq!(server.call("forecast", json!({ "provider": "claude" }))["structuredContent"]["grantable"], 32);
    home.run(&["stop"]).ok();
    assert_eq!(server.call("forecast", json!({ "provider": "claude" }))["structuredContent"]["grantable"], 32);
    drop(server.stdin);
    assert_eq!(server.child.wait().unwrap().code(), Some(0), "it ends with its input");
}

#[test]
fn it_starts_no_daemon_unless_that_is_allowed() {
    let home = Home::new();
    let mut server = Server::start(&home, &["--no-start"]);
    let refused = server.call("status", json!({}));
    assert_eq!(
        (&refused["isError"], &refused["structuredContent"]["error"]["data"]["kind"]),
        (&json!(true), &json!("no_daemon"))
    );
    assert!(!home.places().socket.exists());
    drop(server.stdin);
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn requests_before_the_end_of_the_input_are_answered_and_nonsense_ends_nothing() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let message = |id: u32, method: &str, params: Value| {
        format!("{}\n", json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
    };
    let hello =
        json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let call = |tool: &str| json!({ "name": tool, "arguments": {} });
    let input = message(1, "initialize", hello)
        + &format!("{initialized}\n")
        + &message(2, "tools/call", call("status"))
        + &message(3, "tools/list", json!({}));
    let done = home.feed(&["mcp"], &input).ok();
    let ids: Vec<u64> = done
        .out
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))["id"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert!([1, 2, 3].iter().all(|id| ids.contains(id)), "{ids:?}");
    for nothing in ["", "\n", "nonsense\n"] {
        home.feed(&["mcp"], nothing).ok();
    }
    let too_long = format!("{}\n", "x".repeat(3 << 20));
    let listed = message(4, "tools/list", json!({}));
    let done = home.feed(&["mcp"], &(input + &too_long + &listed + &too_long + too_long.trim_end())).ok();
    let answers = |part: &str| done.out.lines().filter(|line| line.contains(part)).count();
    assert_eq!((answers("1048576 bytes"), answers("\"id\":4")), (2, 1), "{}", done.out);
    home.run(&["mcp", "--json"]).exits(2).complains("no JSON document");
}

#[test]
fn a_forecast_says_how_many_agents_can_start() {
    let home = Home::with_keys(&[("anthropic", "work"), ("anthropic", "home")]);
    home.run(&["config", "set", "leases.overflow", "wait"]).ok();
    let text = home.run(&["forecast", "claude"]).ok().says("claude: 2 agents can start now");
    assert!(text.out.lines().all(|line| line.chars().count() <= 80), "{text:?}");
    home.run(&["account", "disable", "home"]).ok();
    home.run(&["forecast", "claude", "--count", "2"]).ok().says("1 of 2 agents can start now").says("disabled");
    home.run(&["account", "disable", "work"]).ok();
    home.run(&["forecast"]).exits(4);
    home.run(&["forecast", "openai"]).exits(5).complains("no openai account");
    home.run(&["forecast", "nowhere"]).exits(1).complains("nowhere");
    home.run(&["forecast", "claude", "--count", "0"]).exits(2);
}
