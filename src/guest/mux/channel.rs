//! One channel of a link. What has arrived for it and was not read is at most a window, in however many frames it came.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::{Notify, Semaphore, mpsc};
use zeroize::Zeroizing;

use super::MOST_CHANNELS;
use crate::guest::frame::{LinkFrame, MOST_DATA};

/// The bytes of a channel that may be under way in one direction.
pub(super) const WINDOW: usize = 128 * 1024;
/// The bytes between a channel and its user.
pub(super) const BESIDE: usize = 32 * 1024;

/// The other side has sent more than it may.
#[derive(Debug)]
pub(super) struct BeyondWindow;

/// The channels that are open, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Channels {
    open: Mutex<FxHashMap<u32, ChannelState>>,
    next: AtomicU32,
}

#[derive(Clone, Debug)]
struct ChannelState {
    arrived: Arc<Arrived>,
    /// How many bytes may be sent.
    credit: Arc<Semaphore>,
    /// Has no permits; it is closed when the other side closes the channel.
    end: Arc<Semaphore>,
}

/// What has arrived for a channel.
#[derive(Debug, Default)]
struct Arrived {
    bytes: Mutex<ArrivedBytes>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct ArrivedBytes {
    pending: Zeroizing<Vec<u8>>,
    /// How many bytes have arrived that the user has not read, those that are being written to it included.
    unread: usize,
    is_finished: bool,
    is_closed: bool,
}

/// What a channel's user gets next.
enum NextBytes {
    Data(Zeroizing<Vec<u8>>),
    Finished,
    Closed,
}

impl Arrived {
    fn bytes(&self) -> MutexGuard<'_, ArrivedBytes> {
        // each change is one assignment
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn next(&self) -> NextBytes {
        loop {
            {
                let mut bytes = self.bytes();
                if !bytes.pending.is_empty() {
                    return NextBytes::Data(std::mem::take(&mut bytes.pending));
                }
                if bytes.is_finished {
                    return NextBytes::Finished;
                }
                if bytes.is_closed {
                    return NextBytes::Closed;
                }
            }
            self.changed.notified().await;
        }
    }
}

/// A channel to be served: its number, this side's end and its state.
#[derive(Debug)]
pub(super) struct ChannelTask {
    number: u32,
    stream: DuplexStream,
    state: ChannelState,
}

impl Channels {
    fn open(&self) -> MutexGuard<'_, FxHashMap<u32, ChannelState>> {
        // entries are only added and removed: there is no state in between
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, number: u32) -> Option<ChannelState> {
        self.open().get(&number).cloned()
    }

    /// The number of a channel that is opened here.
    pub(super) fn next_number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A new channel; `None` when there are too many, or the number is taken.
    pub(super) fn add(&self, number: u32) -> Option<(DuplexStream, ChannelTask)> {
        let mut open = self.open();
        if open.len() >= MOST_CHANNELS || open.contains_key(&number) {
            return None;
        }
        let (ours, theirs) = duplex(BESIDE);
        let (credit, end) = (Arc::new(Semaphore::new(WINDOW)), Arc::new(Semaphore::new(0)));
        let state = ChannelState { arrived: Arc::default(), credit, end };
        open.insert(number, state.clone());
        Some((theirs, ChannelTask { number, stream: ours, state }))
    }

    /// Bytes have arrived. One that was closed here may still be sent to.
    pub(super) fn arrived(&self, number: u32, data: &[u8]) -> Result<(), BeyondWindow> {
        let Some(state) = self.get(number) else { return Ok(()) };
        let mut bytes = state.arrived.bytes();
        if bytes.is_finished {
            return Err(BeyondWindow);
        }
        bytes.unread += data.len();
        if bytes.unread > WINDOW {
            return Err(BeyondWindow);
        }
        bytes.pending.extend_from_slice(data);
        drop(bytes);
        state.arrived.changed.notify_one();
        Ok(())
    }

    /// The other side has read so much.
    pub(super) fn may_send_more(&self, number: u32, more: usize) -> Result<(), BeyondWindow> {
        let Some(ChannelState { credit, .. }) = self.get(number) else { return Ok(()) };
        if credit.available_permits() + more > WINDOW {
            return Err(BeyondWindow);
        }
        credit.add_permits(more);
        Ok(())
    }

    /// The other side sends no more.
    pub(super) fn finished(&self, number: u32) {
        if let Some(state) = self.get(number) {
            state.arrived.bytes().is_finished = true;
            state.arrived.changed.notify_one();
        }
    }

    /// The other side has closed it. It has its place until its task has ended.
    pub(super) fn close(&self, number: u32) {
        if let Some(state) = self.get(number) {
            state.close();
        }
    }

    pub(super) fn close_all(&self) {
        self.open().drain().for_each(|(_, state)| state.close());
    }

    /// Its task has ended.
    pub(super) fn remove(&self, number: u32) {
        self.open().remove(&number);
    }

    /// The memory of what has arrived on a channel.
    #[cfg(test)]
    pub(super) fn kept(&self, number: u32) -> usize {
        self.get(number).map_or(0, |state| state.arrived.bytes().pending.capacity())
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.open().len()
    }
}

impl ChannelState {
    fn close(&self) {
        self.credit.close();
        self.end.close();
        self.arrived.bytes().is_closed = true;
        self.arrived.changed.notify_one();
    }
}

/// Carries the bytes of one channel in both directions, until both have ended or the other side has closed it.
pub(super) async fn serve_channel(channels: Arc<Channels>, out: mpsc::Sender<LinkFrame>, task: ChannelTask) {
    let ChannelTask { number, stream, state: ChannelState { arrived, credit, end } } = task;
    let (mut from_user, mut to_user) = tokio::io::split(stream);
    let sending = async {
        let mut chunk = Zeroizing::new(vec![0; MOST_DATA]);
        loop {
            let read = tokio::select! {
                read = from_user.read(&mut chunk) => read,
                _closed = end.acquire() => return false,
            };
            let length = match read {
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
        loop {
            let data = match arrived.next().await {
                NextBytes::Data(data) => data,
                NextBytes::Finished => {
                    let _gone = to_user.shutdown().await;
                    return true;
                }
                NextBytes::Closed => return false,
            };
            for piece in data.chunks(MOST_DATA) {
                if to_user.write_all(piece).await.is_err() {
                    return false;
                }
                arrived.bytes().unread -= piece.len();
                let amount = u32::try_from(piece.len()).unwrap_or(u32::MAX);
                if out.send(LinkFrame::Window(number, amount)).await.is_err() {
                    return false;
                }
            }
        }
    };
    let (mut sending, mut receiving) = (std::pin::pin!(sending), std::pin::pin!(receiving));
    let both = async {
        tokio::select! {
            // what had arrived before the other side closed the channel still reaches the user
            in_order = &mut sending => receiving.await && in_order,
            in_order = &mut receiving => in_order && sending.await,
        }
    };
    let _in_order = both.await;
    let _over = out.send(LinkFrame::Close(number)).await;
    channels.remove(number);
}
