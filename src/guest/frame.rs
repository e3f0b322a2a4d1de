//! The frames of a link: what kind, which channel, how many bytes. Pure.

/// The most bytes of data in a frame.
pub(super) const MOST_DATA: usize = 32 * 1024;
/// The length of a frame's head: kind, channel, length.
const HEAD: usize = 9;

/// One frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum LinkFrame {
    /// The first one of each side: a JSON document.
    Greeting(Vec<u8>),
    /// The guest opens a channel, with what it is for.
    Open(u32, Vec<u8>),
    /// Bytes of a channel.
    Data(u32, Vec<u8>),
    /// The sender has read so many bytes of a channel: so many more may be sent.
    Window(u32, u32),
    /// The sender sends no more data on a channel.
    Finish(u32),
    /// The sender neither sends nor reads any more on a channel.
    Close(u32),
    /// To be answered.
    Ping,
    /// The answer.
    Pong,
}

/// What arrived is no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the other end does not speak lessor's protocol for links")]
pub(super) struct NotAFrame;

impl LinkFrame {
    /// Appends the frame.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let (kind, channel, data) = match self {
            Self::Greeting(document) => (0, 0, &**document),
            Self::Open(channel, purpose) => (1, *channel, &**purpose),
            Self::Data(channel, data) => (2, *channel, &**data),
            Self::Window(channel, more) => return encode(3, *channel, &more.to_le_bytes(), out),
            Self::Finish(channel) => (4, *channel, &[][..]),
            Self::Close(channel) => (5, *channel, &[][..]),
            Self::Ping => (6, 0, &[][..]),
            Self::Pong => (7, 0, &[][..]),
        };
        encode(kind, channel, data, out);
    }
}

fn encode(kind: u8, channel: u32, data: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&channel.to_le_bytes());
    out.extend_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(data);
}

/// Takes frames out of bytes as they arrive.
#[derive(Debug, Default)]
pub(super) struct FrameDecoder {
    buffer: Vec<u8>,
    start: usize,
}

impl FrameDecoder {
    /// Adds what has arrived.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// When the bytes are not those of a link. No more than one frame is ever kept for that.
    pub(super) fn take(&mut self) -> Result<Option<LinkFrame>, NotAFrame> {
        let pending = &self.buffer[self.start..];
        // a login shell that prints something is noticed with its first byte
        if pending.first().is_some_and(|kind| *kind > 7) {
            return Err(NotAFrame);
        }
        let Some((head, rest)) = pending.split_first_chunk::<HEAD>() else { return Ok(None) };
        let [kind, c0, c1, c2, c3, l0, l1, l2, l3] = *head;
        let channel = u32::from_le_bytes([c0, c1, c2, c3]);
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let most = match kind {
            0..=2 => MOST_DATA,
            3 => 4,
            _ => 0,
        };
        if length > most {
            return Err(NotAFrame);
        }
        let Some(data) = rest.get(..length) else { return Ok(None) };
        let frame = match kind {
            0 => LinkFrame::Greeting(data.to_vec()),
            1 => LinkFrame::Open(channel, data.to_vec()),
            2 => LinkFrame::Data(channel, data.to_vec()),
            3 => LinkFrame::Window(channel, u32::from_le_bytes(data.try_into().map_err(|_| NotAFrame)?)),
            4 => LinkFrame::Finish(channel),
            5 => LinkFrame::Close(channel),
            6 => LinkFrame::Ping,
            _ => LinkFrame::Pong,
        };
        self.start += HEAD + length;
        Ok(Some(frame))
    }
}

impl Drop for FrameDecoder {
    /// What passes may be a secret.
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.buffer);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_frame() -> impl Strategy<Value = LinkFrame> {
        let data = || prop::collection::vec(any::<u8>(), 0..300);
        prop_oneof![
            data().prop_map(LinkFrame::Greeting),
            (any::<u32>(), data()).prop_map(|(channel, data)| LinkFrame::Open(channel, data)),
            (any::<u32>(), data()).prop_map(|(channel, data)| LinkFrame::Data(channel, data)),
            (any::<u32>(), any::<u32>()).prop_map(|(channel, more)| LinkFrame::Window(channel, more)),
            any::<u32>().prop_map(LinkFrame::Finish),
            any::<u32>().prop_map(LinkFrame::Close),
            Just(LinkFrame::Ping),
            Just(LinkFrame::Pong),
        ]
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(frames in prop::collection::vec(any_frame(), 0..20), piece in 1usize..400) {
            let mut bytes = Vec::new();
            frames.iter().for_each(|frame| frame.encode(&mut bytes));
            let (mut decoder, mut found) = (FrameDecoder::default(), Vec::new());
            for bytes in bytes.chunks(piece) {
                decoder.push(bytes);
                while let Some(frame) = decoder.take().unwrap() {
                    found.push(frame);
                }
            }
            prop_assert_eq!(found, frames);
        }

        #[test]
        fn other_bytes_are_refused_and_never_kept(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut decoder = FrameDecoder::default();
            for bytes in bytes.chunks(64) {
                decoder.push(bytes);
                loop {
                    match decoder.take() {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(NotAFrame) => return Ok(()),
                    }
                }
                prop_assert!(decoder.buffer.len() - decoder.start <= MOST_DATA + HEAD + 64);
            }
        }
    }

    #[test]
    fn what_a_login_shell_prints_is_no_frame() {
        let mut decoder = FrameDecoder::default();
        decoder.push(b"Welcome to buildbox\n");
        assert_eq!(decoder.take(), Err(NotAFrame));
        let mut decoder = FrameDecoder::default();
        decoder.push(&[2, 1, 0, 0, 0, 255, 255, 255, 0]);
        assert_eq!(decoder.take(), Err(NotAFrame), "a frame that is too long");
    }
}
