//! The URL of a pool's database with another user.

/// The URL with this user.
pub(super) fn with_user(url: &str, user: &str) -> String {
    let (scheme, rest) = split(url);
    format!("{scheme}{}@{}", encoded(user), without_user_parameter(host_part(rest)))
}

/// The URL without a user: the same for all hosts.
pub(super) fn without_user(url: &str) -> String {
    let (scheme, rest) = split(url);
    format!("{scheme}{}", without_user_parameter(host_part(rest)))
}

/// Scheme and rest; both spellings of the scheme are the same.
fn split(url: &str) -> (&'static str, &str) {
    ("postgres://", url.split_once("://").map_or(url, |(_, rest)| rest))
}

/// What follows the user.
fn host_part(rest: &str) -> &str {
    let authority = rest.find(['/', '?']).unwrap_or(rest.len());
    match rest[..authority].rfind('@') {
        Some(at) => &rest[at + 1..],
        None => rest,
    }
}

fn without_user_parameter(rest: &str) -> String {
    let Some((address, query)) = rest.split_once('?') else { return rest.to_owned() };
    let kept: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("user=")).collect();
    if kept.is_empty() { address.to_owned() } else { format!("{address}?{}", kept.join("&")) }
}

/// A user as it stands in a URL.
fn encoded(user: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let letter = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    user.bytes().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_a_url_is_replaced_and_nothing_else() {
        for (url, with, without) in [
            ("postgres://me@db:5433/lessor", "postgres://x_1@db:5433/lessor", "postgres://db:5433/lessor"),
            (
                "postgresql://db/lessor?sslmode=verify-full",
                "postgres://x_1@db/lessor?sslmode=verify-full",
                "postgres://db/lessor?sslmode=verify-full",
            ),
            (
                "postgres:///l?host=/run/pg&user=me&port=9",
                "postgres://x_1@/l?host=/run/pg&port=9",
                "postgres:///l?host=/run/pg&port=9",
            ),
            ("postgres://me@[::1]/l?user=me", "postgres://x_1@[::1]/l", "postgres://[::1]/l"),
        ] {
            assert_eq!((with_user(url, "x_1").as_str(), without_user(url).as_str()), (with, without));
        }
        assert_eq!(with_user("postgres://db/l", "a@b:c"), "postgres://a%40b%3Ac@db/l");
    }
}
