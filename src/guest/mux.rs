//! Many channels over one link. Each channel has a window in each direction: a slow reader stops its own sender, neither
//! the other channels nor the link, and no more than a window of a channel is ever kept.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::frame::{FrameDecoder, LinkFrame, MOST_DATA};
use crate::protocol::{GuestGreeting, PROTOCOL};

/// The bytes of a channel that may be under way in one direction.
const WINDOW: usize = 128 * 1024;
/// The bytes between a channel and its user.
const BESIDE: usize = 32 * 1024;
/// The channels that may be open.
const MOST_CHANNELS: usize = 512;
/// Frames that wait for the link.
const MOST_FRAMES: usize = 64;
/// How often the guest asks whether the host is there.
const PING: Duration = Duration::from_secs(5);
/// A link on which nothing arrives for so long is over.
const SILENCE: Duration = Duration::from_secs(18);
/// How long the greeting of the other side may take: ssh may ask for a key's passphrase, a daemon may start.
const GREETING: Duration = Duration::from_secs(60);
/// The version of frames and of what they carry.
const LINK_VERSION: u32 = 1;

/// The first message of each side.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkGreeting {
    /// The version of this protocol.
    pub link: u32,
    /// That of the calls within.
    pub protocol: u32,
    /// That of lessor.
    pub version: String,
    /// Of a host that cannot serve: why.
    pub refusal: Option<String>,
}

impl LinkGreeting {
    /// The greeting of this version.
    #[must_use]
    pub fn own() -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { link: LINK_VERSION, protocol: PROTOCOL, version, refusal: None }
    }
}

/// What a channel is for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkChannel {
    /// The host's socket, as a guest.
    Socket(Box<GuestGreeting>),
    /// The host's gateway.
    Gateway,
}

/// A channel that the other side has opened.
#[derive(Debug)]
pub struct OpenedChannel {
    /// What it is for.
    pub purpose: LinkChannel,
    /// Its bytes.
    pub stream: DuplexStream,
}

/// Why a link has ended.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LinkEnd {
    /// The stream has ended.
    #[error("the connection was closed")]
    Closed,
    /// Nothing has arrived for too long.
    #[error("the other end does not answer")]
    Silent,
    /// The other side has another version, or is not lessor.
    #[error("{0}")]
    Refused(String),
    /// It broke the rules.
    #[error("the other end does not speak lessor's protocol for links")]
    Broken,
}

/// Opens channels; the link ends when all handles are gone.
#[derive(Clone, Debug)]
pub struct LinkHandle {
    out: mpsc::Sender<LinkFrame>,
    channels: Arc<Channels>,
    /// The tasks of channels that are opened here.
    tasks: mpsc::UnboundedSender<ChannelTask>,
}

/// A channel to be served: its number and this side's end.
type ChannelTask = (u32, DuplexStream, mpsc::UnboundedReceiver<Arrived>, Arc<Semaphore>);

/// What has arrived for a channel.
#[derive(Debug)]
enum Arrived {
    Data(Vec<u8>),
    Finish,
}

#[derive(Debug, Default)]
struct Channels {
    open: Mutex<FxHashMap<u32, ChannelState>>,
    next: AtomicU32,
}

#[derive(Debug)]
struct ChannelState {
    arrived: mpsc::UnboundedSender<Arrived>,
    /// How many bytes may be sent.
    credit: Arc<Semaphore>,
    /// How many bytes have arrived and are not read.
    unread: usize,
}

impl Channels {
    fn open(&self) -> MutexGuard<'_, FxHashMap<u32, ChannelState>> {
        // entries are only added and removed: there is no state in between
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new channel; `None` when there are too many, or the number is taken.
    fn add(&self, number: u32) -> Option<(DuplexStream, ChannelTask)> {
        let mut open = self.open();
        if open.len() >= MOST_CHANNELS || open.contains_key(&number) {
            return None;
        }
        let (ours, theirs) = duplex(BESIDE);
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let credit = Arc::new(Semaphore::new(WINDOW));
        open.insert(number, ChannelState { arrived, credit: credit.clone(), unread: 0 });
        Some((theirs, (number, ours, arrivals, credit)))
    }

    fn close(&self, number: u32) {
        if let Some(state) = self.open().remove(&number) {
            state.credit.close();
        }
    }

    fn close_all(&self) {
        for (_, state) in self.open().drain() {
            state.credit.close();
        }
    }
}

impl LinkHandle {
    /// Opens a channel; `None` when the link is over, or has too many.
    pub async fn open(&self, purpose: &LinkChannel) -> Option<DuplexStream> {
        let number = self.channels.next.fetch_add(1, Ordering::Relaxed);
        let document = serde_json::to_vec(purpose).ok().filter(|document| document.len() <= MOST_DATA)?;
        let (stream, task) = self.channels.add(number)?;
        if self.out.send(LinkFrame::Open(number, document)).await.is_err() || self.tasks.send(task).is_err() {
            self.channels.close(number);
            return None;
        }
        Some(stream)
    }

    /// Whether the link is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.out.is_closed()
    }
}

/// Greets the other side, and begins a link. `accepts`: where the channels go that the other side opens; only a host has
/// that. What is returned serves the link until it ends.
///
/// # Errors
/// When the other side does not answer in time, or has another version.
pub async fn begin_link<R, W>(
    mut reader: R,
    mut writer: W,
    own: LinkGreeting,
    accepts: Option<mpsc::UnboundedSender<OpenedChannel>>,
) -> Result<(LinkHandle, LinkGreeting, impl Future<Output = LinkEnd>), LinkEnd>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut decoder = FrameDecoder::default();
    let greeted = tokio::time::timeout(GREETING, greet(&mut reader, &mut writer, &mut decoder, &own)).await;
    let greeting = greeted.unwrap_or(Err(LinkEnd::Silent))?;
    let (out, frames) = mpsc::channel(MOST_FRAMES);
    let (tasks, new_tasks) = mpsc::unbounded_channel();
    let channels = Arc::<Channels>::default();
    let handle = LinkHandle { out: out.clone(), channels: channels.clone(), tasks };
    let serving = async move {
        let (stop, stopped) = oneshot::channel::<()>();
        let is_guest = accepts.is_none();
        let end = tokio::select! {
            end = read_frames(reader, decoder, &channels, (&out, accepts, new_tasks)) => end,
            () = write_frames(writer, frames) => LinkEnd::Closed,
            () = ask(&out, is_guest) => LinkEnd::Closed,
            _ = stopped => LinkEnd::Closed,
        };
        drop(stop);
        channels.close_all();
        end
    };
    Ok((handle, greeting, serving))
}

async fn greet<R, W>(
    reader: &mut R,
    writer: &mut W,
    decoder: &mut FrameDecoder,
    own: &LinkGreeting,
) -> Result<LinkGreeting, LinkEnd>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut bytes = Vec::new();
    LinkFrame::Greeting(serde_json::to_vec(own).unwrap_or_default()).encode(&mut bytes);
    writer.write_all(&bytes).await.map_err(|_| LinkEnd::Closed)?;
    writer.flush().await.map_err(|_| LinkEnd::Closed)?;
    let mut chunk = vec![0; 4096];
    let frame = loop {
        if let Some(frame) = decoder.take().map_err(|_| LinkEnd::Broken)? {
            break frame;
        }
        match reader.read(&mut chunk).await {
            Ok(0) | Err(_) => return Err(LinkEnd::Closed),
            Ok(length) => decoder.push(&chunk[..length]),
        }
    };
    let LinkFrame::Greeting(document) = frame else { return Err(LinkEnd::Broken) };
    let greeting: LinkGreeting = serde_json::from_slice(&document).map_err(|_| LinkEnd::Broken)?;
    if let Some(refusal) = greeting.refusal {
        return Err(LinkEnd::Refused(refusal));
    }
    // the binary encoding of calls is that of one version
    if (greeting.link, greeting.protocol, &greeting.version) != (own.link, own.protocol, &own.version) {
        let (theirs, ours) = (&greeting.version, &own.version);
        let words = format!("the other end has lessor {theirs}, this one {ours}: install the same version on both");
        return Err(LinkEnd::Refused(words));
    }
    Ok(greeting)
}

/// Reads frames, and serves the channels that are open.
async fn read_frames<R: AsyncRead + Unpin>(
    mut reader: R,
    mut decoder: FrameDecoder,
    channels: &Arc<Channels>,
    (out, accepts, mut new_tasks): (
        &mpsc::Sender<LinkFrame>,
        Option<mpsc::UnboundedSender<OpenedChannel>>,
        mpsc::UnboundedReceiver<ChannelTask>,
    ),
) -> LinkEnd {
    let mut serving = JoinSet::new();
    let mut chunk = vec![0; MOST_DATA];
    let mut silence = std::pin::pin!(tokio::time::sleep(SILENCE));
    loop {
        loop {
            let frame = match decoder.take() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => return LinkEnd::Broken,
            };
            match frame {
                LinkFrame::Open(number, document) => {
                    let Some(accepts) = &accepts else { return LinkEnd::Broken };
                    let Ok(purpose) = serde_json::from_slice(&document) else { return LinkEnd::Broken };
                    match channels.add(number) {
                        Some((stream, task)) => {
                            serving.spawn(serve_channel(channels.clone(), out.clone(), task));
                            if accepts.send(OpenedChannel { purpose, stream }).is_err() {
                                return LinkEnd::Closed;
                            }
                        }
                        // there are too many; a full queue of frames does not stop the reader
                        None => drop(out.try_send(LinkFrame::Close(number))),
                    }
                }
                LinkFrame::Data(number, data) => {
                    let mut open = channels.open();
                    // one that was closed here may still be sent to
                    let Some(state) = open.get_mut(&number) else { continue };
                    state.unread += data.len();
                    if state.unread > WINDOW {
                        return LinkEnd::Broken;
                    }
                    // a channel whose task has ended is about to be closed
                    let _ended = state.arrived.send(Arrived::Data(data));
                }
                LinkFrame::Window(number, more) => {
                    let open = channels.open();
                    let Some(state) = open.get(&number) else { continue };
                    if state.credit.available_permits() + more as usize > WINDOW {
                        return LinkEnd::Broken;
                    }
                    state.credit.add_permits(more as usize);
                }
                LinkFrame::Finish(number) => {
                    if let Some(state) = channels.open().get(&number) {
                        let _ended = state.arrived.send(Arrived::Finish);
                    }
                }
                LinkFrame::Close(number) => channels.close(number),
                LinkFrame::Ping => drop(out.try_send(LinkFrame::Pong)),
                LinkFrame::Pong => {}
                LinkFrame::Greeting(_) => return LinkEnd::Broken,
            }
        }
        tokio::select! {
            read = reader.read(&mut chunk) => match read {
                Ok(0) | Err(_) => return LinkEnd::Closed,
                Ok(length) => {
                    decoder.push(&chunk[..length]);
                    silence.as_mut().reset(tokio::time::Instant::now() + SILENCE);
                }
            },
            () = &mut silence => return LinkEnd::Silent,
            task = new_tasks.recv() => match task {
                Some(task) => drop(serving.spawn(serve_channel(channels.clone(), out.clone(), task))),
                // all handles are gone; a host opens none
                None if accepts.is_none() => return LinkEnd::Closed,
                None => new_tasks = mpsc::unbounded_channel().1,
            },
            Some(_) = serving.join_next() => {}
        }
    }
}

async fn write_frames<W: AsyncWrite + Unpin>(mut writer: W, mut frames: mpsc::Receiver<LinkFrame>) {
    let mut bytes = Vec::with_capacity(2 * MOST_DATA);
    while let Some(frame) = frames.recv().await {
        bytes.clear();
        frame.encode(&mut bytes);
        while bytes.len() < MOST_DATA
            && let Ok(frame) = frames.try_recv()
        {
            frame.encode(&mut bytes);
        }
        if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
}

/// Asks again and again whether the other end is there; a host only answers.
async fn ask(out: &mpsc::Sender<LinkFrame>, is_guest: bool) {
    if !is_guest {
        return std::future::pending().await;
    }
    while out.send(LinkFrame::Ping).await.is_ok() {
        tokio::time::sleep(PING).await;
    }
}

/// Carries the bytes of one channel in both directions, until both have ended.
async fn serve_channel(channels: Arc<Channels>, out: mpsc::Sender<LinkFrame>, task: ChannelTask) {
    let (number, stream, mut arrivals, credit) = task;
    let (mut from_user, mut to_user) = tokio::io::split(stream);
    let sending = async {
        let mut chunk = vec![0; MOST_DATA];
        loop {
            let length = match from_user.read(&mut chunk).await {
                Ok(0) => {
                    let _over = out.send(LinkFrame::Finish(number)).await;
                    return true;
                }
                Ok(length) => length,
                Err(_) => return false,
            };
            let amount = u32::try_from(length).unwrap_or(u32::MAX);
            match credit.acquire_many(amount).await {
                Ok(permits) => permits.forget(),
                // the channel was closed
                Err(_) => return false,
            }
            if out.send(LinkFrame::Data(number, chunk[..length].to_vec())).await.is_err() {
                return false;
            }
        }
    };
    let receiving = async {
        while let Some(arrived) = arrivals.recv().await {
            let Arrived::Data(data) = arrived else {
                let _gone = to_user.shutdown().await;
                return true;
            };
            if to_user.write_all(&data).await.is_err() {
                return false;
            }
            if let Some(state) = channels.open().get_mut(&number) {
                state.unread -= data.len();
            }
            let amount = u32::try_from(data.len()).unwrap_or(u32::MAX);
            if out.send(LinkFrame::Window(number, amount)).await.is_err() {
                return false;
            }
        }
        false
    };
    let (mut sending, mut receiving) = (std::pin::pin!(sending), std::pin::pin!(receiving));
    let both = async {
        tokio::select! {
            in_order = &mut sending => in_order && receiving.await,
            in_order = &mut receiving => in_order && sending.await,
        }
    };
    let _in_order = both.await;
    let _over = out.send(LinkFrame::Close(number)).await;
    channels.close(number);
}

#[cfg(test)]
mod tests;
