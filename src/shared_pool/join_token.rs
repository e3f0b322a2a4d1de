//! The text with which another machine joins a pool.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, URL_SAFE_NO_PAD};
use ring::digest;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::HostKeyPair;
use crate::credential::Secret;
use crate::pool::{Wall, spoken};

/// The first word of the text; other versions have another number.
const PREFIX: &str = "lessor-join-";
const VERSION: &str = "1";
/// The length of the checksum, in bytes.
const CHECKSUM: usize = 8;

/// Decodes also what ends within a byte, as a text that is cut off does.
const LENIENT: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

/// What a machine needs to join a pool, once.
#[derive(PartialEq, Eq, Debug)]
pub struct JoinToken {
    /// The URL of the database, without user and password.
    pub url: String,
    /// The database role that was made for the new host.
    pub user: String,
    /// Its password, until the host replaces it.
    pub password: Secret,
    /// The key pair that the pool's keys are wrapped for.
    pub one_time: HostKeyPair,
    /// The id of the pool.
    pub pool: String,
    /// Whether the new host may add, change and remove accounts and hosts.
    pub admin: bool,
    /// Whether the new host may refresh logins.
    pub refresher: bool,
    /// Until when it can be used.
    pub expires_at: Wall,
}

/// Why a text is no token to join with.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JoinTokenError {
    /// It is something else.
    #[error(
        "this is no token to join a pool: such a token begins with lessor-join-1. and is printed by: lessor pool join-token"
    )]
    NotAToken,
    /// Another lessor has made it.
    #[error(
        "the token was made by a newer lessor (its version is {0:?}; this one knows 1): update lessor on this machine"
    )]
    Newer(String),
    /// Its end is missing.
    #[error("the token is cut off: copy all of it, it is one line")]
    CutOff,
    /// It was changed.
    #[error("the token has a wrong letter: copy it again instead of typing it")]
    Changed,
    /// It can no longer be used.
    #[error("the token could be used until {} ago: get a new one from an admin of the pool: lessor pool join-token", spoken(*.0))]
    Expired(std::time::Duration),
}

/// The content of the text.
#[derive(Serialize, Deserialize)]
struct JoinTokenBody<'a> {
    #[serde(borrow)]
    url: Cow<'a, str>,
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(borrow)]
    password: Cow<'a, str>,
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    pool: Cow<'a, str>,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    refresher: bool,
    expires: u64,
}

impl JoinToken {
    /// The text: one line, secret.
    ///
    /// # Errors
    /// When it is too long.
    pub fn to_text(&self) -> Result<Secret, String> {
        let key = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.one_time.to_bytes().as_slice()));
        let content = JoinTokenBody {
            url: self.url.as_str().into(),
            user: self.user.as_str().into(),
            password: self.password.expose().into(),
            key: key.as_str().into(),
            pool: self.pool.as_str().into(),
            admin: self.admin,
            refresher: self.refresher,
            expires: self.expires_at.0,
        };
        // allocated in full: a vector that grows leaves unwiped memory behind
        let texts = self.url.len() + self.user.len() + self.password.expose().len() + self.pool.len();
        let mut body = Zeroizing::new(Vec::with_capacity(512 + 6 * texts));
        serde_json::to_writer(&mut *body, &content).map_err(|error| error.to_string())?;
        let length = u16::try_from(body.len()).map_err(|_| "the URL of the pool is too long".to_owned())?;
        // the length tells a token that is cut off from one that was changed
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 + body.len() + CHECKSUM));
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&body);
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(&*bytes));
        Ok(Secret::new(format!("{PREFIX}{VERSION}.{}", *encoded)))
    }

    /// Reads the text.
    ///
    /// # Errors
    /// When it is something else, is cut off or changed, was made by a newer lessor, or is too old.
    pub fn parse(text: &str, now: Wall) -> Result<Self, JoinTokenError> {
        // a terminal or a mail program may have broken the line
        let text: Zeroizing<String> = Zeroizing::new(text.split_whitespace().collect());
        let rest = text.strip_prefix(PREFIX).ok_or(JoinTokenError::NotAToken)?;
        let Some((version, encoded)) = rest.split_once('.') else {
            let is_begun = VERSION.starts_with(rest);
            return Err(if is_begun { JoinTokenError::CutOff } else { JoinTokenError::NotAToken });
        };
        if version != VERSION {
            let is_number =
                !version.is_empty() && version.len() < 6 && version.bytes().all(|byte| byte.is_ascii_digit());
            return Err(if is_number { JoinTokenError::Newer(version.to_owned()) } else { JoinTokenError::NotAToken });
        }
        let bytes = decode(encoded)?;
        let (length, rest) = bytes.split_first_chunk::<2>().ok_or(JoinTokenError::CutOff)?;
        let length = usize::from(u16::from_be_bytes(*length));
        if rest.len() < length + CHECKSUM {
            return Err(JoinTokenError::CutOff);
        }
        let (checked, found) = bytes.split_at(bytes.len() - CHECKSUM);
        let is_canonical = *encoded == *Zeroizing::new(URL_SAFE_NO_PAD.encode(&*bytes));
        if !is_canonical || rest.len() > length + CHECKSUM || found != checksum(checked) {
            return Err(JoinTokenError::Changed);
        }
        let body: JoinTokenBody<'_> = serde_json::from_slice(&rest[..length]).map_err(|_| JoinTokenError::Changed)?;
        let key = Zeroizing::new(URL_SAFE_NO_PAD.decode(&*body.key).map_err(|_| JoinTokenError::Changed)?);
        let key = Zeroizing::new(<[u8; 32]>::try_from(&**key).map_err(|_| JoinTokenError::Changed)?);
        let expires_at = Wall(body.expires);
        if expires_at <= now {
            return Err(JoinTokenError::Expired(now.since(expires_at)));
        }
        Ok(Self {
            url: body.url.into_owned(),
            user: body.user.into_owned(),
            password: Secret::new(body.password.into_owned()),
            one_time: HostKeyPair::from_bytes(&key),
            pool: body.pool.into_owned(),
            admin: body.admin,
            refresher: body.refresher,
            expires_at,
        })
    }
}

/// The bytes of the text after the point, as far as it goes.
fn decode(encoded: &str) -> Result<Zeroizing<Vec<u8>>, JoinTokenError> {
    if !encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        return Err(JoinTokenError::Changed);
    }
    // one letter beyond a group has no whole byte
    let whole = encoded.len() - usize::from(encoded.len() % 4 == 1);
    let decoded = LENIENT.decode(encoded.get(..whole).unwrap_or_default());
    decoded.map(Zeroizing::new).map_err(|_| JoinTokenError::Changed)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut first = [0; CHECKSUM];
    first.copy_from_slice(&digest::digest(&digest::SHA256, bytes).as_ref()[..CHECKSUM]);
    first
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Wall = Wall(1_800_000_000_000);

    fn token() -> JoinToken {
        JoinToken {
            url: "postgres://db.example:5432/lessor".into(),
            user: "lessor_h7".into(),
            password: Secret::new("canary".into()),
            one_time: HostKeyPair::from_bytes(&[7; 32]),
            pool: "pool-1".into(),
            admin: false,
            refresher: true,
            expires_at: Wall(NOW.0 + 1000),
        }
    }

    fn text() -> String {
        token().to_text().unwrap().expose().to_owned()
    }

    #[test]
    fn a_token_reads_back_also_from_broken_lines() {
        let text = text();
        assert!(text.starts_with("lessor-join-1.") && !text.contains('='), "{text}");
        assert_eq!(JoinToken::parse(&text, NOW), Ok(token()));
        let broken = format!("  {}\r\n {}\n", &text[..40], &text[40..]);
        assert_eq!(JoinToken::parse(&broken, NOW), Ok(token()));
        assert!(!format!("{:?}", token()).contains("canary"));
    }

    #[test]
    fn a_token_that_is_cut_off_says_so() {
        let text = text();
        for cut in "lessor-join-".len()..text.len() {
            assert_eq!(JoinToken::parse(&text[..cut], NOW), Err(JoinTokenError::CutOff), "{cut}");
        }
    }

    #[test]
    fn a_changed_letter_is_found() {
        let text = text();
        let from = "lessor-join-1.".len();
        for place in from..text.len() {
            for letter in ["A", "b", "_", "+"] {
                let changed = format!("{}{letter}{}", &text[..place], &text[place + 1..]);
                if changed == text {
                    continue;
                }
                let error = JoinToken::parse(&changed, NOW).unwrap_err();
                // a letter of the length may make it longer than the text
                let expected = error == JoinTokenError::Changed || error == JoinTokenError::CutOff && place < from + 3;
                assert!(expected, "{place} {letter}: {error}");
            }
        }
        assert_eq!(JoinToken::parse(&format!("{text}AAAA"), NOW), Err(JoinTokenError::Changed));
        let upper = text[..from].to_owned() + &text[from..].to_ascii_uppercase();
        assert!(JoinToken::parse(&upper, NOW).is_err());
    }

    #[test]
    fn other_texts_newer_versions_and_old_tokens_are_named() {
        let newer = text().replacen("join-1.", "join-2.", 1);
        assert_eq!(JoinToken::parse(&newer, NOW), Err(JoinTokenError::Newer("2".into())));
        for other in ["", "lessor", "lessor-join-x.AAAA", "lessor-join-.AAAA", "lessor-join-xyz", "https://example.org"]
        {
            assert_eq!(JoinToken::parse(other, NOW), Err(JoinTokenError::NotAToken), "{other:?}");
        }
        let late = Wall(token().expires_at.0 + 60_000);
        let error = JoinToken::parse(&text(), late).unwrap_err();
        assert_eq!(error, JoinTokenError::Expired(Duration::from_secs(60)));
        assert!(error.to_string().contains("lessor pool join-token"), "{error}");
        assert!(JoinToken::parse(&text(), token().expires_at).is_err(), "its end is not part of its time");
    }
}
