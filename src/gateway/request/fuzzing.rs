//! The body of a request, for `fuzz/`.

use hyper::body::Bytes;
use serde_json::Value;

use super::request_text::WantedText;
use crate::fuzzing::message::Message;
use crate::gateway::content_decoder::ContentDecoder;
use crate::provider;

/// The body of a request to the gateway: `PROVIDER PATH`, headers, body.
pub fn gateway_request(input: &[u8]) {
    let message = Message::of(input);
    let headers = message.header_map();
    let (provider, path) = (message.word(0), message.word(1));
    let wanted = WantedText::of(provider, path);
    let mut decoder = ContentDecoder::of_request(&headers);
    let mut body = Vec::new();
    decoder.push(message.body, |bytes| body.extend_from_slice(bytes));
    decoder.finish(|bytes| body.extend_from_slice(bytes));
    let scanned = |piece: usize| {
        let mut scan = wanted.scan();
        for bytes in body.chunks(piece.max(1)) {
            if !scan.push(bytes) {
                break;
            }
        }
        wanted.read(scan)
    };
    let text = scanned(body.len());
    let piece = usize::from(input.last().copied().unwrap_or_default()) + 1;
    assert_eq!(format!("{text:?}"), format!("{:?}", scanned(piece)), "in pieces of {piece}");
    let document = serde_json::from_slice::<Value>(&body).ok().filter(Value::is_object);
    let stated = document.as_ref().and_then(|document| document.get("model")?.as_str());
    if let (Some(model), Some(stated)) = (&text.model, stated) {
        let is_one = body.windows(7).filter(|part| *part == b"\"model\"").count() == 1;
        assert!(!is_one || **model == *stated, "{model:?} is read, {stated:?} is meant");
    }
    text.model.iter().for_each(|model| _ = provider::names_a_quota(provider, model));
    let Some(project) = &text.project else { return };
    let pieces = [Bytes::copy_from_slice(message.body)];
    let Some(replaced) = project.replaced_by("another-project", &pieces, &headers, |_| true) else { return };
    assert!(replaced.len() <= body.len() + 64 * 4096);
    if document.is_some() {
        let again: Result<Value, _> = serde_json::from_slice(&replaced);
        assert!(again.is_ok(), "the rewritten body is no JSON: {}", String::from_utf8_lossy(&replaced));
    }
}
