//! Many channels over one link. Each channel has a window in each direction: a slow reader stops its own sender, neither
//! the other channels nor the link, and no more than a window of a channel is ever kept.

mod channel;
mod greeting;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::frame::{FrameDecoder, LinkFrame, MOST_DATA};
use crate::protocol::GuestGreeting;
use channel::{ChannelTask, Channels, serve_channel};
pub use greeting::LinkGreeting;
use greeting::greet;

/// The channels that may be open.
const MOST_CHANNELS: usize = 512;
/// Frames that wait for the link.
const MOST_FRAMES: usize = 64;
/// Refused channels whose end waits for the link.
const MOST_REFUSED: usize = 16 * 1024;
/// How often the guest asks whether the host is there.
const PING: Duration = Duration::from_secs(5);
/// A link on which nothing arrives for so long is over.
const SILENCE: Duration = Duration::from_secs(18);

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
    /// Its place among those that may be open; to be kept until nothing is left of what was begun for it.
    pub place: OwnedSemaphorePermit,
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

impl LinkHandle {
    /// Opens a channel; `None` when the link is over, or has too many.
    pub async fn open(&self, purpose: &LinkChannel) -> Option<DuplexStream> {
        let number = self.channels.next_number();
        let document = serde_json::to_vec(purpose).ok().filter(|document| document.len() <= MOST_DATA)?;
        let (stream, task) = self.channels.add(number)?;
        if self.out.send(LinkFrame::Open(number, document)).await.is_err() || self.tasks.send(task).is_err() {
            self.channels.remove(number);
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
    let greeting = greet(&mut reader, &mut writer, &mut decoder, &own).await?;
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
    let places = Arc::new(Semaphore::new(MOST_CHANNELS));
    let mut chunk = vec![0; MOST_DATA];
    let mut refused = VecDeque::new();
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
                    // one that the guest has closed has its place until what was begun for it has ended
                    let place = places.clone().try_acquire_owned().ok();
                    match place.and_then(|place| Some((channels.add(number)?, place))) {
                        Some(((stream, task), place)) => {
                            serving.spawn(serve_channel(channels.clone(), out.clone(), task));
                            if accepts.send(OpenedChannel { purpose, stream, place }).is_err() {
                                return LinkEnd::Closed;
                            }
                        }
                        // there are too many; a full queue of frames neither stops the reader nor loses the answer
                        None if refused.len() < MOST_REFUSED => refused.push_back(number),
                        None => return LinkEnd::Broken,
                    }
                }
                LinkFrame::Data(number, data) => {
                    if channels.arrived(number, &Zeroizing::new(data)).is_err() {
                        return LinkEnd::Broken;
                    }
                }
                LinkFrame::Window(number, more) => {
                    if channels.may_send_more(number, more as usize).is_err() {
                        return LinkEnd::Broken;
                    }
                }
                LinkFrame::Finish(number) => channels.finished(number),
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
            Ok(place) = out.reserve(), if !refused.is_empty() => {
                if let Some(number) = refused.pop_front() {
                    place.send(LinkFrame::Close(number));
                }
            }
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

#[cfg(test)]
mod tests;
