//! Reading any bytes from the socket ends in calls, a clear error, or a wait for more; never in a panic, and
//! never in more memory than the largest message.
//!
//! `PROPTEST_CASES=1000000 cargo test --release --test hostile_bytes` is the long run.

use std::path::PathBuf;

use lessor::protocol::{ErrorKind, LeaseKey, MAGIC, MAX_MESSAGE, MessageDecoder};
use proptest::prelude::*;

/// Feeds `bytes` in pieces; returns how many messages were found.
fn feed(bytes: &[u8], piece: usize) -> usize {
    let mut decoder = MessageDecoder::default();
    let mut found = 0;
    for piece in bytes.chunks(piece.max(1)) {
        decoder.inbox().extend_from_slice(piece);
        loop {
            match decoder.take() {
                Ok(Some(_)) => found += 1,
                Ok(None) => break,
                Err(fatal) => {
                    assert!(!fatal.error.message.is_empty());
                    return found;
                }
            }
        }
        let room = decoder.inbox().capacity();
        assert!(room <= 4 * MAX_MESSAGE, "{room} bytes are kept");
    }
    decoder.take_rest();
    found
}

/// Every golden call, in both codecs, as the seeds of mutations.
fn samples() -> Vec<Vec<u8>> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut samples = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if path.extension().is_some_and(|extension| extension == "bin") {
            samples.push([&MAGIC[..], &bytes].concat());
        } else {
            samples.push(bytes);
        }
    }
    assert!(samples.len() > 30);
    samples.sort();
    samples
}

proptest! {
    #[test]
    fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), piece in 1usize..300) {
        feed(&bytes, piece);
        feed(&[&MAGIC[..], &bytes].concat(), piece);
        feed(&[b"{", bytes.as_slice()].concat(), piece);
    }

    #[test]
    fn mutated_messages_do_not_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        piece in 1usize..100,
    ) {
        let samples = samples();
        let mut bytes = which.get(&samples).clone();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        feed(&bytes, piece);
        bytes.truncate(cut.index(bytes.len()));
        feed(&bytes, piece);
    }

    #[test]
    fn forged_lease_ids_are_rejected(text in "\\PC{0,400}") {
        prop_assert_eq!(LeaseKey::new([1; 16]).open(&text), None);
    }
}

#[test]
fn an_endless_line_is_rejected_at_the_limit() {
    let mut bytes = vec![b' '; MAX_MESSAGE + 2];
    bytes[0] = b'{';
    let mut decoder = MessageDecoder::default();
    decoder.inbox().extend_from_slice(&bytes);
    assert_eq!(decoder.take().unwrap_err().error.data.kind, ErrorKind::TooLarge);
}

#[test]
fn a_length_above_the_limit_is_rejected_before_its_bytes_arrive() {
    for length in [MAX_MESSAGE as u32 + 1, u32::MAX] {
        let mut decoder = MessageDecoder::default();
        decoder.inbox().extend_from_slice(&MAGIC);
        decoder.inbox().extend_from_slice(&length.to_le_bytes());
        assert_eq!(decoder.take().unwrap_err().error.data.kind, ErrorKind::TooLarge);
        assert!(decoder.inbox().capacity() < 64 * 1024);
    }
}

#[test]
fn deep_duplicate_and_odd_json_gets_exact_errors() {
    let deep = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\",\"params\":{}1{}}}",
        "[".repeat(9000),
        "]".repeat(9000)
    );
    let cases = [
        deep.as_str(),
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"status\"}",
        "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"status\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"status\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\",\"params\":[1]}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"lease.acquire\",\"params\":{\"provider\":\"a\",\"priority\":1e99}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"lease.acquire\",\"params\":{\"provider\":\"a\",\"provider\":\"b\"}}",
        "{]",
    ];
    for line in cases {
        let mut decoder = MessageDecoder::default();
        decoder.inbox().extend_from_slice(line.as_bytes());
        decoder.inbox().extend_from_slice(b"\r\n");
        let incoming = decoder.take().unwrap().unwrap();
        assert_eq!(incoming.call.unwrap_err().data.kind, ErrorKind::BadRequest, "{:.80}", line);
        assert!(incoming.id.is_some());
    }
}
