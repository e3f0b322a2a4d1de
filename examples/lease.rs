//! Leases an account, sends requests with its key, reports each response, and does what lessor says next.
//!
//! On simulated accounts: `lessor demo --serve -- cargo run --example lease`

use std::{env, thread, time::Duration};

use lessor::client;
use lessor::protocol::{AcquireParams, CredentialInfo, ReportParams};

const REQUEST: &str =
    r#"{"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": "Say hello."}]}"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let requests: usize = env::args().nth(1).map_or(Ok(10), |number| number.parse())?;
    // reqwest leaves the choice of a TLS provider to the program
    let _chosen_before = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::new();
    // it is released when it is dropped, and ends with this program at the latest
    let mut lease = client::acquire(AcquireParams::new("anthropic"))?;
    let mut number = 1;
    while number <= requests {
        let (status, headers, body) = send(&http, &lease.credential(false)?).await?;
        // after a switch, the guard holds the lease of the other account
        let next = lease.report(ReportParams::response(status, headers, body))?;
        let account = &lease.lease().account;
        let account = account.label.as_ref().unwrap_or(&account.id);
        match &*next.action {
            "continue" => {
                println!("{number}. {account}: status {status}");
                number += 1;
            }
            "switch" => println!("a limit: switched to {account}"),
            "retry" | "wait" => thread::sleep(Duration::from_millis(next.after_ms)),
            _ => anyhow::bail!("stopped: {next:?}"),
        }
    }
    Ok(())
}

/// Sends a request: its status, headers and body.
async fn send(
    http: &reqwest::Client,
    credential: &CredentialInfo<'_>,
) -> Result<(u16, Vec<(String, String)>, String), reqwest::Error> {
    let base = env::var("ANTHROPIC_BASE_URL").unwrap_or_else(|_| "https://api.anthropic.com".to_owned());
    let request = http
        .post(format!("{base}/v1/messages"))
        .header(&*credential.header, credential.header_value().as_str())
        .header("anthropic-version", "2023-06-01")
        .header("content-type", "application/json")
        .body(REQUEST);
    let response = request.send().await?;
    let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    Ok((response.status().as_u16(), headers, response.text().await?))
}
