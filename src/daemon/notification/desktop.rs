//! `notify.desktop`: the notifications of the desktop.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::outlet::NoticeSender;
use super::policy::{NoticeDocument, NoticeKind};
use crate::visible;

/// How long the desktop may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Shows notices on the desktop.
pub(super) struct DesktopSender;

/// What is shown.
struct DesktopText {
    title: &'static str,
    body: String,
}

impl NoticeSender for DesktopSender {
    /// Without a notice, it is only found out whether one could be shown.
    type Job = Option<Arc<NoticeDocument>>;
    const KEY: &'static str = "notify.desktop";
    const WARNS_EACH: Option<Duration> = None;

    async fn send(&mut self, notice: Self::Job) -> Result<(), String> {
        let text = notice
            .map(|notice| DesktopText { title: title(notice.kind), body: visible::escape(&notice.text).into_owned() });
        match timeout(TIMEOUT, show(text)).await {
            Ok(shown) => shown,
            Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
        }
    }
}

fn title(kind: NoticeKind) -> &'static str {
    match kind {
        NoticeKind::AccountSwitched => "lessor: account switched",
        NoticeKind::SecondPool => "lessor: second quota pool",
        NoticeKind::LoginNeeded => "lessor: login needed",
        NoticeKind::AllLimited => "lessor: everything limited",
        NoticeKind::FreeAgain => "lessor: free again",
    }
}

/// Calls the notification service of the D-Bus session. A connection is opened for each, because there are few of them,
/// and a session may end before the daemon.
#[cfg(all(unix, not(target_os = "macos")))]
async fn show(text: Option<DesktopText>) -> Result<(), String> {
    use std::collections::HashMap;
    use zbus::zvariant::Value;
    const NAME: &str = "org.freedesktop.Notifications";
    const PATH: &str = "/org/freedesktop/Notifications";
    let connection =
        zbus::Connection::session().await.map_err(|error| format!("there is no D-Bus session: {error}"))?;
    let failed = |error: zbus::Error| format!("the desktop shows no notifications: {error}");
    let answer = connection.call_method(Some(NAME), PATH, Some(NAME), "GetCapabilities", &()).await.map_err(failed)?;
    let capabilities: Vec<String> = answer.body().deserialize().map_err(failed)?;
    let Some(DesktopText { title, mut body }) = text else { return Ok(()) };
    if capabilities.iter().any(|capability| capability == "body-markup") {
        body = body.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    }
    let (actions, hints, chosen_by_desktop) = (Vec::<&str>::new(), HashMap::<&str, Value<'_>>::new(), -1_i32);
    let arguments = ("lessor", 0_u32, "", title, body, actions, hints, chosen_by_desktop);
    connection.call_method(Some(NAME), PATH, Some(NAME), "Notify", &arguments).await.map_err(failed)?;
    Ok(())
}

#[cfg(any(target_os = "macos", windows))]
async fn show(text: Option<DesktopText>) -> Result<(), String> {
    let Some(DesktopText { title, body }) = text else { return Ok(()) };
    let shown = tokio::task::spawn_blocking(move || {
        let mut notification = notify_rust::Notification::new();
        notification.appname("lessor").summary(title).body(&body);
        notification.show().map(drop).map_err(|error| error.to_string())
    });
    shown.await.map_err(|error| error.to_string())?
}
