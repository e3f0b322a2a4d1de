//! What a program says when it has not refreshed its login.

use super::recipe::ToolRecipe;
use crate::limits::line_without_secrets;

/// Longer lines are cut.
const LONGEST_LINE: usize = 200;

/// What a program's output says about its login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ToolAnswer {
    /// The authorization server has rejected the refresh token.
    Rejected,
    /// The vendor does not serve this kind of login in this program.
    Ineligible,
    /// It wants its user to log in: the login has ended, or the network is down.
    WantsLogin,
    /// Nothing of these.
    Other,
}

/// Words that tell what has happened, in lower case; the first kind that occurs counts.
const KNOWN: &[(ToolAnswer, &[&str])] = &[
    (ToolAnswer::Ineligible, &["ineligibletiererror", "ineligible_tier"]),
    (ToolAnswer::Rejected, &["invalid_grant"]),
    (
        ToolAnswer::WantsLogin,
        &[
            "manual authorization is required",
            "please set an auth method",
            "authentication required",
            "visit the url to log in",
            "not logged into antigravity",
            "accounts.google.com/o/oauth2",
        ],
    ),
];

/// Words of a program that waits for its user to log in.
const WAITS: &[&str] = &["authentication required", "visit the url to log in", "accounts.google.com/o/oauth2"];

/// What a program has written to its error output and to its output, up to a limit.
#[derive(Debug, Default)]
pub(super) struct ToolOutput([String; 2]);

/// One of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ToolPipe {
    Errors,
    Output,
}

/// More is read and thrown away.
const MOST_OUTPUT: usize = 64 * 1024;

impl ToolOutput {
    pub(super) fn push(&mut self, pipe: ToolPipe, bytes: &[u8]) {
        let [errors, output] = &mut self.0;
        let text = if pipe == ToolPipe::Errors { errors } else { output };
        let room = MOST_OUTPUT.saturating_sub(text.len());
        let bytes = bytes.get(..room).unwrap_or(bytes);
        text.push_str(&String::from_utf8_lossy(bytes));
    }

    /// Errors first: they are not to be mixed with half a line of output.
    pub(super) fn text(&self) -> String {
        self.0.join("\n")
    }

    /// Whether the program has asked for a login in a way that it waits for.
    pub(super) fn asks_for_login(&self) -> bool {
        let text = self.text().to_lowercase();
        WAITS.iter().any(|words| text.contains(words))
    }

    pub(super) fn answer(&self) -> ToolAnswer {
        let text = self.text().to_lowercase();
        let is_known = |words: &[&str]| words.iter().any(|word| text.contains(word));
        KNOWN.iter().find(|(_, words)| is_known(words)).map_or(ToolAnswer::Other, |(answer, _)| *answer)
    }

    /// The line that tells most: one of the known words, else the first with an error, else the first.
    pub(super) fn line(&self) -> Option<String> {
        let plain = without_colours(&self.text());
        let lines = || plain.lines().map(str::trim).filter(|line| !line.is_empty());
        let has = |line: &str, words: &[&str]| {
            let line = line.to_lowercase();
            words.iter().any(|word| line.contains(word))
        };
        let known = KNOWN.iter().find_map(|(_, words)| lines().find(|line| has(line, words)));
        let line = known.or_else(|| lines().find(|line| has(line, &["error", "fail"]))).or_else(|| lines().next())?;
        Some(line_without_secrets(line, LONGEST_LINE))
    }
}

/// The text without the sequences that colour it.
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\u{1b}' {
            plain.push(letter);
            continue;
        }
        if letters.next() == Some('[') {
            let _end = letters.find(|letter| ('@'..='~').contains(letter));
        }
    }
    plain
}

impl ToolRecipe {
    /// Why Google does not serve such a login, for people.
    pub(super) fn ineligible_words(&self, output: &ToolOutput) -> String {
        let tool = self.program.title();
        let line = output.line().map(|line| format!(" ({line})")).unwrap_or_default();
        format!(
            "Google does not serve this login in {tool}{line}; consumer logins ended there in June 2026: use an \
             enterprise login, an API key, or `lessor login agy`"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: &str) -> ToolOutput {
        let mut output = ToolOutput::default();
        output.push(ToolPipe::Output, text.as_bytes());
        output
    }

    #[test]
    fn known_words_tell_what_has_happened() {
        for (text, answer) in [
            ("Error authenticating: IneligibleTierError: This client is no longer supported", ToolAnswer::Ineligible),
            ("Cached credentials are not valid: invalid_grant\nManual authorization is required", ToolAnswer::Rejected),
            ("Manual authorization is required but the current session …", ToolAnswer::WantsLogin),
            ("You are not logged into Antigravity.", ToolAnswer::WantsLogin),
            ("Authentication required. Please visit the URL to log in:\nhttps://…", ToolAnswer::WantsLogin),
            ("getaddrinfo ENOTFOUND oauth2.googleapis.com", ToolAnswer::Other),
            ("", ToolAnswer::Other),
        ] {
            assert_eq!(output(text).answer(), answer, "{text}");
        }
    }

    #[test]
    fn the_line_that_tells_most_is_shown_without_secrets_and_control_characters() {
        for (text, line) in [
            ("", None),
            ("\n \n", None),
            ("warming up\nready\n", Some("warming up")),
            ("warming up\n  \u{1b}[31mError: it broke\u{1b}[0m\nmore", Some("Error: it broke")),
            ("note\nget \u{202e}x ya29.abcdefghijk", Some("note")),
            ("failed with ya29.abcdefghijk\u{7}", Some("failed with …\u{fffd}")),
        ] {
            assert_eq!(output(text).line().as_deref(), line, "{text:?}");
        }
        let long = output(&"word ".repeat(10_000)).line().unwrap();
        assert!(long.len() < LONGEST_LINE + 8, "{}", long.len());
        let mut much = ToolOutput::default();
        (0..100).for_each(|_| much.push(ToolPipe::Output, &[b'x'; 4096]));
        assert_eq!(much.text().trim().len(), MOST_OUTPUT);
        // half a line of output does not hide an error
        let mut both = output("No sessions.");
        both.push(ToolPipe::Errors, b"it failed\n");
        assert_eq!(both.line().as_deref(), Some("it failed"));
    }
}
