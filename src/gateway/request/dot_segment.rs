//! Dot segments in a path, in every spelling that an upstream may understand. They would lead out of the upstream's base
//! URL, and are refused, not resolved: a path is forwarded as it is, or not at all.

/// A path that is still encoded after this many rounds is refused as if it hid a dot segment.
const MOST_ROUNDS: usize = 4;

/// Whether a path has a segment `.` or `..`: also percent-encoded, more than once, with backslashes or encoded slashes
/// around it, or with parameters (`..;x`).
pub(crate) fn has_dot_segment(path: &str) -> bool {
    // most paths have neither
    if !path.contains(['.', '%']) {
        return false;
    }
    let mut bytes = path.as_bytes().to_vec();
    for _ in 0..MOST_ROUNDS {
        if bytes.split(|byte| matches!(byte, b'/' | b'\\')).any(is_dots) {
            return true;
        }
        let decoded = decode(&bytes);
        if decoded.len() == bytes.len() {
            return false;
        }
        bytes = decoded;
    }
    true
}

/// Control characters and blanks count as nothing: some servers ignore them, or end the path at one.
fn is_dots(segment: &[u8]) -> bool {
    let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
    let mut seen = name.iter().filter(|byte| **byte > b' ' && **byte != 0x7f);
    let dots = seen.by_ref().take(3).map(|byte| *byte == b'.').collect::<Vec<_>>();
    matches!(dots[..], [true] | [true, true])
}

/// Decodes each `%XX` once; others stay.
fn decode(bytes: &[u8]) -> Vec<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let value = (bytes[at] == b'%').then(|| Some((digit(at + 1)? * 16 + digit(at + 2)?) as u8)).flatten();
        decoded.push(value.unwrap_or(bytes[at]));
        at += if value.is_some() { 3 } else { 1 };
    }
    decoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dot_segments_are_found_in_every_spelling() {
        for path in [
            "/anthropic/../../x",
            "/anthropic/..",
            "/anthropic/.",
            "/anthropic/./v1",
            "/../healthz",
            "/openai/v1/%2e%2e/x",
            "/openai/v1/%2E./x",
            "/openai/v1/.%2e/x",
            "/openai/v1/%2e/x",
            "/openai/v1/%252e%252e/x",
            "/openai/v1/%25252e./x",
            "/openai/v1/%2525252525252e/x",
            "/openai/v1/..;/x",
            "/openai/v1/..;a=b/x",
            "/openai/v1/%2e%2e%3bx/y",
            "/openai/v1/..%2fx",
            "/openai/v1/x%2f..%2fy",
            "/openai/v1/x%252f..%252fy",
            "/openai/v1/..\\x",
            "/openai/v1/..%5cx",
            "/openai/v1/a\\..\\x",
            "/openai/v1/..%00/x",
            "/openai/v1/.%09./x",
            "/openai/v1/..%20/x",
        ] {
            assert!(has_dot_segment(path), "{path}");
        }
    }

    #[test]
    fn other_paths_pass_also_with_dots_and_encoded_bytes() {
        for path in [
            "",
            "/",
            "/openai/v1/...",
            "/openai/v1/.well-known/x",
            "/openai/v1/a..b/..c/d..",
            "/openai/v1//c%2Fd;x",
            "/openai/v1/files/a%2eb",
            "/openai/v1/100%/%zz/%2",
            "/google/v1beta/models/gemini-2.5-pro:generateContent",
            "/llm/a%20b/%E2%82%AC/%25",
            "/llm/%2520",
        ] {
            assert!(!has_dot_segment(path), "{path}");
        }
    }

    proptest! {
        /// However each byte of a dot segment is spelled, it is found.
        #[test]
        fn no_spelling_hides_a_dot_segment(rounds in prop::collection::vec(0usize..4, 4), two in any::<bool>()) {
            let spelled = |byte: char, rounds: usize| {
                let mut text = byte.to_string();
                for round in 0..rounds {
                    text = if round == 0 { format!("%{:02x}", byte as u32) } else { text.replace('%', "%25") };
                }
                text
            };
            let mut path = format!("/llm{}{}", spelled('/', rounds[0]), spelled('.', rounds[1]));
            if two {
                path.push_str(&spelled('.', rounds[2]));
            }
            path.push_str(&spelled('/', rounds[3]));
            path.push('x');
            prop_assert!(has_dot_segment(&path), "{}", path);
        }

        #[test]
        fn no_path_causes_a_panic(path in ".{0,60}") {
            let _found = has_dot_segment(&path);
        }
    }
}
