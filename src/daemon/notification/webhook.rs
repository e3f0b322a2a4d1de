//! `notify.webhook`: a URL that a notice is sent to as JSON.

use std::sync::Arc;
use std::time::Duration;

use super::outlet::NoticeSender;
use super::policy::NoticeDocument;
use crate::http::{self, ConnectOptions};

/// How long the server may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before the one retry.
const PAUSE: Duration = Duration::from_secs(1);

/// Sends to webhooks.
#[derive(Default)]
pub(super) struct WebhookSender(Option<reqwest::Client>);

impl NoticeSender for WebhookSender {
    type Job = (String, Arc<NoticeDocument>);
    const KEY: &'static str = "notify.webhook";
    const WARNS_EACH: Option<Duration> = Some(Duration::from_secs(60));

    async fn send(&mut self, (url, notice): Self::Job) -> Result<(), String> {
        let document = serde_json::to_vec(&*notice).map_err(|error| error.to_string())?;
        let client = self.client().await?;
        match post(&client, &url, document.clone()).await {
            Ok(()) => Ok(()),
            Err(PostFailure { is_lasting: true, why }) => Err(why),
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                post(&client, &url, document).await.map_err(|failure| failure.why)
            }
        }
    }
}

impl WebhookSender {
    async fn client(&mut self) -> Result<reqwest::Client, String> {
        if let Some(client) = &self.0 {
            return Ok(client.clone());
        }
        // it reads the system's certificates
        let client = tokio::task::spawn_blocking(|| http::client(&ConnectOptions::default())).await;
        let client = client.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        Ok(self.0.insert(client).clone())
    }
}

struct PostFailure {
    /// A retry would fail, too.
    is_lasting: bool,
    /// Without the URL, which may be a secret.
    why: String,
}

async fn post(client: &reqwest::Client, url: &str, document: Vec<u8>) -> Result<(), PostFailure> {
    let request = client.post(url).header("content-type", "application/json").timeout(TIMEOUT).body(document);
    let status = match request.send().await {
        Ok(response) => response.status(),
        Err(error) => {
            return Err(PostFailure { is_lasting: false, why: http::failure_cause(&error.without_url()) });
        }
    };
    if status.is_success() {
        return Ok(());
    }
    let why = match status.is_redirection() {
        true => format!("the server answered with status {status}; redirects are not followed"),
        false => format!("the server answered with status {status}"),
    };
    Err(PostFailure { is_lasting: !status.is_server_error() && status.as_u16() != 429, why })
}
