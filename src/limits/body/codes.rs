//! Error codes of APIs.

use crate::limits::reason::{Reason, Scope};

/// Normalises a code to lower-case letters and digits, so that `RATE_LIMIT_EXCEEDED`, `rateLimitExceeded`
/// and `rate-limit-exceeded` are equal. `None` for a text too long to be a code.
pub(super) fn plain(code: &str) -> Option<String> {
    let plain: String = code.chars().take(97).filter(char::is_ascii_alphanumeric).collect();
    (!plain.is_empty() && plain.len() <= 64 && code.len() <= 96).then(|| plain.to_ascii_lowercase())
}

/// Codes that are conclusive whatever the status. The first match in this order counts, because a body may contain
/// several.
const SPECIFIC: [(Reason, Option<Scope>, &str); 8] = [
    (Reason::VerificationRequired, None, "validationrequired verificationrequired accountverificationrequired"),
    (
        Reason::OutOfCredit,
        None,
        "insufficientquota creditbalanceexhausted organizationspendlimitexceeded \
         projectspendlimitexceeded organizationusagelimitexceeded usagenotincluded \
         billinghardlimitreached billingnotactive billingerror insufficientg1creditsbalance \
         insufficientbalance insufficientcredits insufficientfunds outofcredits paymentrequired \
         exceededcurrentquotaerror arrearage budgetexceeded insufficientuserquota \
         insufficienttokenquota preconsumetokenquotafailed tokenquotaexhausted creditserror nocredits creditsexhausted creditsdepleted",
    ),
    (
        Reason::QuotaExhausted,
        Some(Scope::Account),
        "usagelimitreached usagelimitexceeded subscriptionsharingusagelimitexceeded",
    ),
    (
        Reason::QuotaExhausted,
        None,
        "quotaexhausted quotaexceeded dailylimitexceeded dailyquotaexceeded dailylimitreached \
         servicequotaexceededexception",
    ),
    (
        Reason::ModelCapacityExhausted,
        None,
        "modelcapacityexhausted modelcapacityexceeded overloadederror overloaded modeloverloaded \
         engineoverloaded engineoverloadederror serverisoverloaded serveroverloaded serverbusy slowdown \
         servicetiercapacityexceeded capacityexceeded modelatcapacity modelnotreadyexception",
    ),
    (
        Reason::RateLimitExceeded,
        None,
        "ratelimitexceeded userratelimitexceeded ratelimitreached ratelimitreachederror toomanyrequests \
         ratelimited requeststhrottled throttlingexception throttlingratequota concurrencylimitexceeded \
         credentialconcurrencyexceeded modelcooldown",
    ),
    (
        Reason::AuthFailed,
        None,
        "subscriptionsharinginvaliduser invalidapikey apikeyinvalid apikeyexpired tokenexpired tokenrevoked tokeninvalidated \
         accesstokenexpired invalidauthenticationerror",
    ),
    (
        Reason::RequestRejected,
        None,
        "contextlengthexceeded requesttoolarge invalidprompt contentpolicyviolation \
         subscriptionsharingunsupportedcapability subscriptionsharingroutenotsupported",
    ),
];

/// Codes that are no more specific than a status, for bodies without one.
const GENERIC: [(Reason, &str); 7] = [
    (Reason::RateLimitExceeded, "ratelimiterror ratelimit requests tokens"),
    (Reason::AuthFailed, "authenticationerror unauthenticated unauthorized"),
    (Reason::Forbidden, "permissionerror permissiondenied forbidden subscriptionsharingusernoteligible"),
    (
        Reason::RequestRejected,
        "invalidrequesterror invalidrequest invalidargument notfounderror notfound failedprecondition \
         outofrange contentfilter",
    ),
    (Reason::ModelCapacityExhausted, "unavailable serviceunavailable serviceunavailableerror"),
    (Reason::ServerError, "apierror servererror internal internalerror internalservererror aborted"),
    (Reason::ServerError, "timeouterror timeout deadlineexceeded badgateway upstreamerror"),
];

/// The reason of the first conclusive code.
pub(in crate::limits) fn specific(codes: &[String]) -> Option<(Reason, Option<Scope>)> {
    let (reason, scope, _) = SPECIFIC.iter().find(|(_, _, known)| met(codes, known))?;
    Some((*reason, *scope))
}

/// The reason of the first generic code.
pub(in crate::limits) fn generic(codes: &[String]) -> Option<Reason> {
    GENERIC.iter().find(|(_, known)| met(codes, known)).map(|(reason, _)| *reason)
}

/// Whether one of `known` is among the codes.
pub(in crate::limits) fn met(codes: &[String], known: &str) -> bool {
    codes.iter().any(|code| known.split(' ').any(|known| known == code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_match_in_every_spelling() {
        for (codes, expected) in [
            (&["RATE_LIMIT_EXCEEDED"][..], Some(Reason::RateLimitExceeded)),
            (&["rateLimitExceeded"], Some(Reason::RateLimitExceeded)),
            (&["server_error", "slow_down"], Some(Reason::ModelCapacityExhausted)),
            (&["invalid_request_error", "invalid_api_key"], Some(Reason::AuthFailed)),
            (&["PERMISSION_DENIED", "VALIDATION_REQUIRED"], Some(Reason::VerificationRequired)),
            (&["rateLimitExceeded", "QUOTA_EXHAUSTED"], Some(Reason::QuotaExhausted)),
            (&["RESOURCE_EXHAUSTED"], None),
            (&["rate_limit_error"], None),
            (&[], None),
        ] {
            let plain: Vec<String> = codes.iter().filter_map(|code| plain(code)).collect();
            assert_eq!(specific(&plain).map(|(reason, _)| reason), expected, "{codes:?}");
        }
        assert_eq!(plain(&"x".repeat(1000)), None);
        assert_eq!(plain("…"), None);
    }

    #[test]
    fn the_tables_hold_normalised_codes() {
        let specific = SPECIFIC.iter().flat_map(|(_, _, known)| known.split(' '));
        for code in specific.chain(GENERIC.iter().flat_map(|(_, known)| known.split(' '))) {
            assert_eq!(plain(code).as_deref(), Some(code));
        }
    }
}
