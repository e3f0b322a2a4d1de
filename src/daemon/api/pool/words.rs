//! What the calls about the shared pool check and name: hosts, passwords, settings.

use crate::credential::Secret;
use crate::daemon::api::session::bad;
use crate::pool::Overflow;
use crate::protocol::{ErrorInfo, ErrorKind};
use crate::shared_pool::HostId;

/// The longest name of a host, in letters.
const LONGEST_NAME: usize = 48;

/// The id of a host as text.
pub(super) fn host_text(id: HostId) -> String {
    format!("ho_{}", id.0)
}

/// Refuses settings that contradict each other.
pub(super) fn check_rules(per_account: u32, max_per_account: u32) -> Result<(), ErrorInfo> {
    if per_account == 0 {
        return Err(bad("`per_account` is 0; at least 1 is needed"));
    }
    if max_per_account < per_account {
        return Err(bad(format!(
            "`max_per_account` is {max_per_account}, below `per_account`, which is {per_account}"
        )));
    }
    Ok(())
}

/// An overflow's name, as in the configuration.
pub(super) fn overflow_name(overflow: Overflow) -> &'static str {
    match overflow {
        Overflow::Wait => "wait",
        Overflow::Fail => "fail",
        Overflow::Share => "share",
    }
}

/// An overflow by its name.
pub(super) fn overflow_named(name: &str) -> Result<Overflow, ErrorInfo> {
    let all = [Overflow::Wait, Overflow::Fail, Overflow::Share];
    let found = all.into_iter().find(|overflow| overflow_name(*overflow) == name);
    found.ok_or_else(|| bad(format!("`overflow` may be wait, fail or share; not {name:?}")))
}

/// Whether a host may be called so.
pub(super) fn check_name(name: &str) -> Result<(), ErrorInfo> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if name.is_empty() || name.len() > LONGEST_NAME || name.starts_with('-') || !name.chars().all(is_letter) {
        return Err(bad(format!(
            "the name of a host has letters, digits, `-`, `_` and `.` only, {LONGEST_NAME} at most; not {name:?}"
        )));
    }
    Ok(())
}

/// The name of the machine, as far as it can be the name of a host.
pub(super) fn machine_name() -> String {
    let name = crate::daemon::os::host::name().unwrap_or_default();
    let name: String =
        name.chars().filter(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(*letter)).collect();
    let name = name.trim_start_matches('-');
    let name: String = name.split('.').next().unwrap_or(name).chars().take(LONGEST_NAME).collect();
    if name.is_empty() { "host-1".to_owned() } else { name }
}

/// A password for the database role of a host.
pub(super) fn random_password() -> Result<Secret, ErrorInfo> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = zeroize::Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut *bytes)
        .map_err(|error| ErrorInfo::new(ErrorKind::Internal, format!("no random number is available: {error}")))?;
    Ok(Secret::new(bytes.iter().map(|byte| char::from(DIGITS[usize::from(byte & 63)])).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_host_is_one_word() {
        for good in ["ci-1", "build_2.example", "A"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = "a".repeat(LONGEST_NAME + 1);
        for wrong in ["", "-x", "a b", "ä", "a/b", &long] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
        assert!(check_name(&machine_name()).is_ok());
    }

    #[test]
    fn passwords_are_long_and_differ() {
        let (first, second) = (random_password().unwrap(), random_password().unwrap());
        assert_eq!(first.expose().len(), 32);
        assert!(first != second);
    }
}
