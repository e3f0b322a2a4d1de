//! The thread of the link: it runs ssh, begins a link, states the holders, and begins another link when that ends.

use std::io;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::config::JoinSection;
use crate::daemon::os::clock;
use crate::daemon::state::Daemon;
use crate::daemon::state::host_link::HostState;
use crate::guest::{LinkChannel, LinkGreeting, begin_link};
use crate::protocol::{Call, Codec, GuestHoldersParams, GuestRole, RequestId, encode_call_as};

/// The pause before the second attempt; the next ones are twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long the host's daemon may take to answer the first call.
const FIRST_ANSWER: Duration = Duration::from_secs(20);
/// How often the link is looked after while nothing happens.
const STEP: Duration = Duration::from_millis(500);
/// Most holders that a message says have ended: the host refuses long lists.
const MOST_ENDED_AT_ONCE: usize = 1024;
/// The longest line of ssh's messages that is kept.
const LONGEST_LINE: usize = 300;

/// Starts the thread.
pub(super) fn start(daemon: &Arc<Daemon>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let daemon = Arc::downgrade(daemon);
    std::thread::Builder::new().name("lessor-host".to_owned()).spawn(move || {
        runtime.block_on(keep(&daemon));
        runtime.shutdown_background();
    })?;
    Ok(())
}

/// Keeps a link while the configuration names a host and the daemon runs.
async fn keep(daemon: &Weak<Daemon>) {
    let Some(mut ended) = daemon.upgrade().and_then(|daemon| take_ended(&daemon)) else { return };
    let mut pause = FIRST_PAUSE;
    let mut down_since = clock::now();
    while let Some(strong) = daemon.upgrade().filter(|daemon| !*daemon.stop.borrow()) {
        let join = strong.join_section();
        if join.host.is_none() {
            break;
        }
        let mut grace = std::pin::pin!(grace_over(&strong, down_since, join.grace));
        let outcome = {
            let mut attempt = std::pin::pin!(attempt(&strong, &join, &mut ended));
            tokio::select! {
                outcome = &mut attempt => outcome,
                () = &mut grace => attempt.await,
            }
        };
        let was_up = strong.host_link.is_up();
        if was_up {
            (pause, down_since) = (FIRST_PAUSE, clock::now());
        }
        if *strong.stop.borrow() {
            break;
        }
        tracing::info!("the link to the host {} is down: {}", join.host.as_deref().unwrap_or_default(), outcome);
        let is_over = clock::now().mono.since(down_since.mono) >= join.grace;
        let why = Some(outcome.into());
        strong.host_link.state.send_replace(HostState::Down { since: down_since, why, is_over });
        let mut stop = strong.stop.subscribe();
        let mut changes = strong.config_version.subscribe();
        let mut grace = std::pin::pin!(grace_over(&strong, down_since, join.grace));
        let mut waiting = std::pin::pin!(tokio::time::sleep(pause));
        let wanted = async {
            tokio::time::sleep(FIRST_PAUSE).await;
            strong.host_link.wanted.notified().await;
        };
        let mut wanted = std::pin::pin!(wanted);
        loop {
            tokio::select! {
                () = &mut waiting => break,
                () = &mut wanted => break,
                () = &mut grace => {}
                _ = changes.changed() => break,
                _ = stop.wait_for(|stops| *stops) => break,
            }
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    if let Some(daemon) = daemon.upgrade() {
        daemon.host_link.state.send_replace(HostState::Off);
        daemon.host_link.holders().retire_all();
        *daemon.host_link.for_link.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
        daemon.host_link.is_running.store(false, Ordering::Relaxed);
        // the host may have been named again meanwhile
        if !*daemon.stop.borrow() && daemon.join_section().host.is_some() {
            daemon.configure_host_link();
        }
    }
}

fn take_ended(daemon: &Daemon) -> Option<mpsc::UnboundedReceiver<u32>> {
    daemon.host_link.for_link.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Ends the leases here when the link has been down for too long, once; then waits for ever.
async fn grace_over(daemon: &Daemon, since: crate::pool::Now, grace: Duration) {
    let link = &daemon.host_link;
    while clock::now().mono.since(since.mono) < grace {
        let left = grace.saturating_sub(clock::now().mono.since(since.mono));
        // the timer's clock stops in suspend
        tokio::time::sleep(left.min(STEP)).await;
    }
    let ended = link.state.send_if_modified(|state| match state {
        HostState::Down { is_over, .. } => !std::mem::replace(is_over, true),
        HostState::Off | HostState::Up(..) => false,
    });
    if ended {
        let held = link.holders().living().len();
        link.holders().retire_all();
        tracing::warn!(held, "the link to the host was down for too long: its leases have ended");
    }
    std::future::pending::<()>().await;
}

/// One link, from ssh to its end; answers why it has ended.
async fn attempt(daemon: &Arc<Daemon>, join: &JoinSection, ended: &mut mpsc::UnboundedReceiver<u32>) -> String {
    let link = &daemon.host_link;
    let is_needed = !link.holders().living().is_empty() || link.waiting.load(Ordering::Relaxed) > 0;
    let mut child = match ssh(join, is_needed).spawn() {
        Ok(child) => child,
        Err(error) => return format!("ssh cannot be started: {error}"),
    };
    let (Some(input), Some(output), Some(messages)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return "ssh has no pipes".to_owned();
    };
    let words = Arc::<Mutex<String>>::default();
    let reading = tokio::spawn(keep_last_line(messages, words.clone()));
    let end = serve(daemon, join, ended, (output, input)).await;
    let why = end_of(&mut child, reading, &words, end).await;
    drop(child);
    why
}

/// The end of a link in words: what ssh has said, if it has failed.
async fn end_of(child: &mut Child, reading: tokio::task::JoinHandle<()>, words: &Mutex<String>, end: String) -> String {
    let status = match tokio::time::timeout(STEP, child.wait()).await {
        Ok(Ok(status)) => Some(status),
        Ok(Err(_)) | Err(_) => None,
    };
    let _killed = child.start_kill();
    let _read = tokio::time::timeout(STEP, reading).await;
    let words = words.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match status {
        Some(status) if !status.success() && !words.is_empty() => words,
        Some(status) if status.code() == Some(127) => {
            "there is no lessor on the host: lessor join HOST --program PATH".into()
        }
        _ => end,
    }
}

/// The command of the link. What the user's configuration of ssh says holds: a master connection that exists is used.
fn ssh(join: &JoinSection, is_needed: bool) -> Command {
    let mut command = Command::new("ssh");
    command.args(["-T", "-o", "BatchMode=yes", "-o", "ControlMaster=no", "-o", "ClearAllForwardings=yes"]);
    command.args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3", "-o", "ConnectTimeout=10"]);
    for option in &join.options {
        command.arg("-o").arg(option);
    }
    command.arg("--").arg(join.host.as_deref().unwrap_or_default());
    // the shell there has to see a home directory
    let (home, rest) = match join.program.strip_prefix("~/") {
        Some(rest) => ("~/", rest),
        None => ("", join.program.as_str()),
    };
    command.arg(format!("{home}{}", shlex::try_quote(rest).unwrap_or_default()));
    // an idle guest does not start the host's daemon again
    if !is_needed {
        command.arg("--no-start");
    }
    command.args(["share", "--stdio"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn keep_last_line(messages: impl AsyncRead + Unpin, words: Arc<Mutex<String>>) {
    let mut lines = BufReader::new(messages).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let line: String = line.trim().chars().take(LONGEST_LINE).collect();
        if !line.is_empty() {
            *words.lock().unwrap_or_else(PoisonError::into_inner) = crate::visible::escape(&line).into_owned();
        }
    }
}

/// Begins a link over ssh's output and input, and serves it until its end.
async fn serve(
    daemon: &Arc<Daemon>,
    join: &JoinSection,
    ended: &mut mpsc::UnboundedReceiver<u32>,
    (output, input): (tokio::process::ChildStdout, tokio::process::ChildStdin),
) -> String {
    let (handle, _host, serving) = match begin_link(output, input, LinkGreeting::own(), None).await {
        Ok(begun) => begun,
        Err(end) => return end.to_string(),
    };
    let mut serving = std::pin::pin!(serving);
    let stating = async {
        let purpose = LinkChannel::Socket(Box::new(daemon.guest_greeting(GuestRole::Link)));
        let mut control = handle.open(&purpose).await.ok_or("the link has ended")?;
        state_all(daemon, &mut control, ended).await?;
        Ok::<_, String>(control)
    };
    let control = tokio::select! {
        end = &mut serving => return end.to_string(),
        stated = tokio::time::timeout(FIRST_ANSWER, stating) => match stated {
            Ok(Ok(control)) => control,
            Ok(Err(why)) => return why,
            Err(_) => return "the host's daemon does not answer".to_owned(),
        },
    };
    let since = clock::now();
    tracing::info!("the link to the host {} is up", join.host.as_deref().unwrap_or_default());
    daemon.host_link.state.send_replace(HostState::Up(handle, since));
    tokio::select! {
        end = &mut serving => end.to_string(),
        end = tell_ends(daemon, join, control, ended) => end,
    }
}

/// States all holders that live; the host ends the leases of the others.
async fn state_all(
    daemon: &Daemon,
    control: &mut DuplexStream,
    ended: &mut mpsc::UnboundedReceiver<u32>,
) -> Result<(), String> {
    // they are not among the living any more
    while ended.try_recv().is_ok() {}
    let begun = daemon.host_link.holders().living();
    let call = holders_call(Some(1), GuestHoldersParams { begun, all: true, ..GuestHoldersParams::default() });
    control.write_all(&call).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while !answer.contains(&b'\n') {
        match control.read(&mut chunk).await {
            Ok(0) | Err(_) => return Err("the host's daemon has ended".to_owned()),
            Ok(length) => answer.extend_from_slice(&chunk[..length]),
        }
        if answer.len() > 64 * 1024 {
            return Err("the host's daemon gives no answer".to_owned());
        }
    }
    #[derive(serde::Deserialize)]
    struct HoldersAnswer {
        error: Option<crate::protocol::ErrorInfo>,
    }
    match serde_json::from_slice::<HoldersAnswer>(&answer) {
        Ok(HoldersAnswer { error: None }) => Ok(()),
        Ok(HoldersAnswer { error: Some(error) }) => Err(format!("the host refuses this guest: {}", error.message)),
        Err(_) => Err("the host's daemon gives no answer".to_owned()),
    }
}

fn holders_call(id: Option<u64>, params: GuestHoldersParams) -> Vec<u8> {
    let mut bytes = Vec::new();
    let id = id.map(RequestId::Number);
    // a list of holders that is too long for a message is refused by the host, too
    let _too_large = encode_call_as(Codec::Json, id.as_ref(), Call::GuestHolders(Box::new(params)), &mut bytes);
    bytes
}

/// Says which holders have ended, until the link ends, or another host is configured.
async fn tell_ends(
    daemon: &Arc<Daemon>,
    join: &JoinSection,
    mut control: DuplexStream,
    ended: &mut mpsc::UnboundedReceiver<u32>,
) -> String {
    let mut stop = daemon.stop.subscribe();
    let mut changes = daemon.config_version.subscribe();
    let mut chunk = [0; 1024];
    loop {
        tokio::select! {
            // nothing else comes: notifications get no answers
            read = control.read(&mut chunk) => if !matches!(read, Ok(1..)) {
                return "the host's daemon has ended".to_owned();
            },
            Some(number) = ended.recv() => {
                let mut numbers = vec![number];
                while numbers.len() < MOST_ENDED_AT_ONCE
                    && let Ok(number) = ended.try_recv()
                {
                    numbers.push(number);
                }
                let params = GuestHoldersParams { ended: numbers, ..GuestHoldersParams::default() };
                if control.write_all(&holders_call(None, params)).await.is_err() {
                    return "the host's daemon has ended".to_owned();
                }
            }
            _ = changes.changed() => if daemon.join_section() != *join {
                leave(daemon, &mut control, false).await;
                return "another host is configured".to_owned();
            },
            _ = stop.wait_for(|stops| *stops) => {
                leave(daemon, &mut control, daemon.restart.borrow().is_some()).await;
                return "this daemon stops".to_owned();
            }
        }
    }
}

/// Ends all leases at the host, unless their holders will resume them after a restart.
async fn leave(daemon: &Daemon, control: &mut DuplexStream, comes_back: bool) {
    if comes_back {
        return;
    }
    daemon.host_link.holders().retire_all();
    let params = GuestHoldersParams { all: true, ..GuestHoldersParams::default() };
    let _gone = control.write_all(&holders_call(Some(2), params)).await;
    // the answer, so that it was not cut off
    let mut chunk = [0; 256];
    let _answered = tokio::time::timeout(STEP, control.read(&mut chunk)).await;
}

#[cfg(test)]
mod tests;
