//! `page.open`: codes for the gateway's page.

use std::sync::Arc;
use std::time::Duration;

use super::reply::AnswerResult;
use crate::daemon::os::clock;
use crate::daemon::page_sessions::CodeState;
use crate::daemon::state::{Daemon, GatewayState};
use crate::protocol::{Answer, ErrorInfo, ErrorKind, OpenPageParams, PageAccess, SecretText};

/// How long an answer waits until the code is used; a client asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// Makes a code, or waits for what becomes of one.
pub async fn open(daemon: Arc<Daemon>, params: OpenPageParams) -> AnswerResult {
    let GatewayState { url, trouble, .. } = daemon.state().gateway.clone();
    let url = url.map(|url| format!("{url}/ui"));
    let Some(code) = params.wait_for else {
        if url.is_none() {
            let why = trouble.unwrap_or_else(|| "gateway.enabled is false".to_owned());
            let error = ErrorInfo::new(ErrorKind::NoGateway, format!("the gateway does not listen: {why}"));
            return Err(error.hint("the page is part of the gateway: lessor config set gateway.enabled true"));
        }
        let made = daemon.page.make_code(clock::now(), params.actions);
        let no_random = |error| ErrorInfo::new(ErrorKind::Internal, format!("no random number is available: {error}"));
        let (code, expires_at) = made.map_err(no_random)?;
        let code = Some(SecretText(code.to_string().into()));
        let access = PageAccess { url, trouble, code, expires_at: Some(expires_at.0), state: "open".to_owned() };
        return Ok(Answer::PageAccess(Box::new(access)));
    };
    let state = || daemon.page.state_of(clock::now(), &code.0);
    let no_longer_open = async {
        loop {
            let used = daemon.page.code_used();
            if state() != CodeState::Open {
                return;
            }
            // a code that ends wakes nothing
            let _used_or_later = tokio::time::timeout(Duration::from_secs(1), used).await;
        }
    };
    let _in_time = tokio::time::timeout(LONGEST_WAIT, no_longer_open).await;
    let state = match state() {
        CodeState::Open => "open",
        CodeState::Used => "used",
        CodeState::Ended => "ended",
    };
    let access = PageAccess { url, trouble, code: None, expires_at: None, state: state.to_owned() };
    Ok(Answer::PageAccess(Box::new(access)))
}
