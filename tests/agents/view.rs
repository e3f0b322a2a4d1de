//! What agents see of lessor: its MCP server, as Claude Code finds it.

use super::fleet::{Fleet, wait};

#[test]
fn claude_code_connects_to_the_mcp_server() {
    let fleet = Fleet::new("claude-mcp", "anthropic", &[1]);
    let lessor = env!("CARGO_BIN_EXE_lessor");
    let script = format!("claude mcp add lessor -- {lessor} mcp && claude mcp list");
    let ran = wait(vec![(1, fleet.start("user", &["-p", "anthropic"], &["sh", "-c", &script]))]);
    assert!(ran[0].text.contains("Connected"), "{ran:?}");
    assert_eq!(fleet.upstream.seen().len(), 0, "no request is made for that");
}
