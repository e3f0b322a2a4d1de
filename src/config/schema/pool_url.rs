//! The URL of a shared pool: a PostgreSQL database, without a password.

use url::Url;

/// Why a text is not the URL of a shared pool. It shows nothing of a URL that may contain a password.
pub(super) fn fault_of(text: &str) -> Option<&'static str> {
    let Ok(url) = Url::parse(text) else {
        // the keyword form, or a URL with a mistake in it
        let may_tell = text.contains('@') || text.to_ascii_lowercase().contains("pass");
        return Some(if may_tell {
            "a text that is not a URL, not shown because it may contain a password"
        } else {
            ""
        });
    };
    let is_password = |(name, _): (std::borrow::Cow<'_, str>, _)| name.to_ascii_lowercase().contains("pass");
    if url.password().is_some() || url.query_pairs().any(is_password) {
        return Some(
            "a URL with a password, which is not allowed: `lessor pool init` and `lessor pool join` keep it sealed",
        );
    }
    if !["postgres", "postgresql"].contains(&url.scheme()) {
        return Some("");
    }
    // a directory of a Unix socket is a percent-encoded host or a parameter
    let has_host =
        url.host_str().is_some_and(|host| !host.is_empty()) || url.query_pairs().any(|(name, _)| name == "host");
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
            ("mysql://db.example/lessor", ""),
            ("db.example", ""),
        ] {
            let fault = fault_of(bad).unwrap_or_else(|| panic!("{bad}"));
            assert!(fault.contains(said) && fault.is_empty() == said.is_empty(), "{bad}: {fault}");
        }
    }
}
