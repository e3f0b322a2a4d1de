//! The URL of a shared pool: a PostgreSQL database, without a password.

/// Why a text is not the URL of a shared pool. It shows nothing of a text that may contain a password; it is empty where
/// the text itself can be shown.
pub(super) fn fault_of(text: &str) -> Option<&'static str> {
    const MAY_TELL: &str = "a text that is not a URL, not shown because it may contain a password";
    const WITH_PASSWORD: &str =
        "a URL with a password, which is not allowed: `lessor pool init` and `lessor pool join` keep it sealed";
    let mentions_password = || text.contains('@') || text.to_ascii_lowercase().contains("pass");
    let Some((scheme, rest)) = text.split_once("://") else {
        // the keyword form, or a URL with a mistake in it
        return Some(if mentions_password() { MAY_TELL } else { "" });
    };
    let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    // a password may contain a slash, wrongly
    let (user, host) = place.rsplit_once('@').unwrap_or(("", place));
    if user.contains(':') || parameters.to_ascii_lowercase().contains("pass") {
        return Some(WITH_PASSWORD);
    }
    if !["postgres", "postgresql"].contains(&scheme) || text.contains(char::is_whitespace) {
        return Some(if mentions_password() { MAY_TELL } else { "" });
    }
    let host = host.split('/').next().unwrap_or_default();
    // the directory of a Unix socket may be a parameter
    let has_host = !host.is_empty() || parameters.split('&').any(|parameter| parameter.starts_with("host="));
    (!has_host).then_some("a URL without a host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_other_schemes_and_missing_hosts_are_found() {
        for good in [
            "postgres://db.example/lessor",
            "postgresql://alice@db.example:5432/lessor?sslmode=require",
            "postgres://alice@%2Frun%2Fpostgresql/lessor",
            "postgres:///lessor?host=/run/postgresql",
            "postgres://alice@[::1]:5432/lessor",
            "postgres://alice@one.example:5432,two.example:5433/lessor",
        ] {
            assert_eq!(fault_of(good), None, "{good}");
        }
        for (bad, said) in [
            ("postgres://alice:canary@db.example/lessor", "with a password"),
            ("mysql://alice:canary@db.example/lessor", "with a password"),
            ("postgres://db.example/lessor?password=canary", "with a password"),
            ("postgres://db.example/lessor?sslpassword=canary", "with a password"),
            ("host=db password=canary", "may contain a password"),
            ("postgres//alice:canary@db/lessor", "may contain a password"),
            ("postgres:///lessor", "without a host"),
            ("postgres://alice:can/ary@db.example/lessor", "with a password"),
            ("postgres://db.example/lessor password=canary", "may contain a password"),
            ("mysql://db.example/lessor", ""),
            ("db.example", ""),
        ] {
            let fault = fault_of(bad).unwrap_or_else(|| panic!("{bad}"));
            assert!(fault.contains(said) && fault.is_empty() == said.is_empty(), "{bad}: {fault}");
        }
    }
}
