//! Reasons in prose.
//!
//! Reads lower-case text, in time linear in its length.

use crate::limits::reason::Reason;
use crate::limits::response::Dialect;

/// Whether the text contains one of the phrases, which are separated by `|`.
fn has(text: &str, phrases: &str) -> bool {
    phrases.split('|').any(|phrase| text.contains(phrase))
}

/// Google's words for every 429: they name no reason, and come while there is quota left.
pub(in crate::limits) fn is_stock_phrase(text: &str) -> bool {
    let is_stock = |line: &str| line.trim_end_matches(['.', ' ']) == "resource has been exhausted (e.g. check quota)";
    !text.is_empty() && text.lines().all(is_stock)
}

/// Nothing but the name of status 429: it says no more than the status.
pub(in crate::limits) fn is_status_phrase(text: &str) -> bool {
    const OF_STATUS: [&str; 5] = ["http", "error", "status", "code", "429"];
    let is_name = |line: &str| {
        let words = line.split(|letter: char| !letter.is_alphanumeric());
        let words = words.filter(|word| !word.is_empty() && !OF_STATUS.contains(word));
        words.eq(["too", "many", "requests"])
    };
    !text.is_empty() && text.lines().all(is_name)
}

/// Whether the text states an HTTP status: `http 429`, `status: 429`, `429 too many requests`.
pub(in crate::limits) fn states_status(text: &str, status: u16) -> bool {
    let digits = status.to_string();
    text.match_indices(&digits).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + digits.len()..]);
        let is_whole = !before.ends_with(|letter: char| letter.is_alphanumeric() || matches!(letter, '.' | ','))
            && !after.starts_with(|letter: char| letter.is_alphanumeric());
        let label = before.trim_end_matches([' ', ':', '=', '(', '"', '\'', '#', '/']);
        is_whole
            && (["http", "status", "code", "error", "returned", "responded", "responded with", "got", "received"]
                .iter()
                .any(|word| label.ends_with(word))
                || has(super::beginning(after, 24), " too many| unauthorized| forbidden"))
    })
}

/// The upstream's own rate or quota was met, in words that no other error uses.
pub(in crate::limits) fn is_surely_limited(text: &str) -> bool {
    has(
        text,
        "resource_exhausted|resourceexhausted|exhausted your capacity|exhausted your quota|quota will reset|too many requests",
    )
}

/// The limit belongs to a faster service that the request asked for: it does not say anything about ordinary requests.
pub(in crate::limits) fn is_of_fast_mode(text: &str) -> bool {
    has(
        text,
        "fast mode|fast-mode|priority tier|priority processing|priority service tier|service tier `priority`|\
         service_tier=priority|service_tier: priority|service_tier \"priority\"|service tier priority|service tier: priority",
    )
}

/// The limit's window is a minute or shorter.
pub(in crate::limits) fn is_per_minute(text: &str) -> bool {
    has(text, "per minute|per-minute|per min|per second|per-second|/min|/ min|(rpm)|(tpm)")
}

/// Why a 429 was returned.
pub(in crate::limits) fn why_limited(text: &str) -> Option<Reason> {
    let own = has(text, "exhausted your capacity|exhausted your quota|quota will reset|quota resets");
    if own {
        Some(Reason::QuotaExhausted)
    } else if is_capacity(text) {
        Some(Reason::ModelCapacityExhausted)
    } else if is_per_minute(text) {
        Some(Reason::RateLimitExceeded)
    } else if is_long(text) {
        Some(Reason::QuotaExhausted)
    } else if has(
        text,
        "rate limit|rate-limit|ratelimit|rate_limit|too many requests|throttl|too quickly|too fast|\
         concurren|request limit|速率限制|请求过于频繁",
    ) {
        Some(Reason::RateLimitExceeded)
    } else {
        has(text, "exhausted|quota|limit reached|limit hit|hit your limit|reached your limit")
            .then_some(Reason::QuotaExhausted)
    }
}

/// The limit's window is an hour or longer.
pub(in crate::limits) fn is_long(text: &str) -> bool {
    has(
        text,
        "per day|per-day|/day|/ day|daily|per week|weekly|per month|/ month|/month|monthly|per hour|\
         hourly|5-hour|5 hour|five-hour|five hour|usage limit|session limit|(rpd)|(tpd)",
    )
}

/// The model or the service is overloaded for all accounts.
pub(in crate::limits) fn is_capacity(text: &str) -> bool {
    let named = has(
        text,
        "overloaded|high demand|resource exhausted|server is busy|servers are busy|server busy|\
         temporarily rate-limited upstream|too much traffic",
    );
    // "your capacity" is about the account
    named || (text.contains("capacity") && !has(text, "your capacity|capacity limit of your"))
}

/// The account's credit is used up.
pub(in crate::limits) fn is_out_of_credit(text: &str, dialect: Dialect) -> bool {
    let named = has(
        text,
        "credit balance|insufficient_quota|insufficient balance|insufficient credit|insufficient fund|\
         out of credit|not enough credit|requires more credits|spend limit|spending limit|\
         spend cap|spending cap|no payment method|balance required|balance is required|key limit exceeded|\
         subscription has expired|plan has expired|套餐已到期|billing hard limit|payment required|payment is required|prepaid credit|\
         check your billing|specified api usage limits|余额不足|欠费",
    );
    // Gemini uses the same words for an ordinary quota
    let is_paid = || dialect != Dialect::Google && (text.contains("check your plan and billing") || is_prepaid(text));
    // a thinking budget is counted in tokens
    let of_tokens = has(text, "budget_tokens|max_tokens|thinking");
    let mut clauses = text.split(['\n', ';', '!', ',', '，', '。']).flat_map(|line| line.split(". "));
    named || is_paid() || (!of_tokens && clauses.any(lacks_money))
}

/// Resellers count what was paid as a quota.
fn is_prepaid(text: &str) -> bool {
    has(text, "quota is not enough|quota not enough|]is not enough|insufficient quota|quota is insufficient")
}

/// Whether a clause names money and says that it is gone.
fn lacks_money(clause: &str) -> bool {
    has(clause, "credit|balance|prepay|budget|fund|wallet|余额|额度|点数")
        && !has(clause, "balancer|balancing|thinking|budget_|token budget|charged|deducted|refunded|unless|when you")
        && has(
            clause,
            "deplet|exhaust|insufficient|not enough|too low|exceed|over budget|used up|used all|ran out|run out|out of |\
             no credit|no remaining|zero|negative|n't have any|not have any|not have enough|n't have enough|不足|用尽|耗尽|用完|为负",
        )
}

/// The plan does not cover this kind of request; ordinary requests still work.
pub(in crate::limits) fn is_beyond_plan(text: &str) -> bool {
    has(text, "extra usage")
}

/// The account's owner must verify the account.
pub(in crate::limits) fn is_verification(text: &str) -> bool {
    has(
        text,
        "validation_required|verification required|verify your account|account verification|\
         verify your identity",
    )
}

/// The credential is not valid any more.
pub(in crate::limits) fn is_dead_credential(text: &str) -> bool {
    let ended = has(text, "revoked|expired|not valid|invalid|invalidated");
    (ended && has(text, "api key|api_key|oauth token|access token|authentication token|bearer token"))
        || (has(text, "过期|无效") && has(text, "令牌|密钥"))
}

/// A change by the owner takes a while to be seen: times beside it are not those of the refusal.
pub(in crate::limits) fn is_of_a_change(text: &str) -> bool {
    has(
        text,
        "propagat|recently|within the last|if you just|if you have already|if you have just|if you created|if you enabled",
    )
}

/// The refusal does not depend on the account, but on the region or the client program.
pub(in crate::limits) fn is_refused_for_all_accounts(text: &str) -> bool {
    has(
        text,
        "country, region, or territory|location is not supported|region is not supported|\
         country is not supported|only authorized for use with claude code",
    )
}

/// The request is larger than the whole limit: waiting does not help.
pub(in crate::limits) fn is_too_large(text: &str) -> bool {
    has(text, "request too large|request is too large|must be reduced in order to run")
}

/// The limit belongs to one model.
pub(in crate::limits) fn names_model(text: &str) -> bool {
    has(
        text,
        "for model|model:|on this model|this model's|per model|for gpt-|for o1|for o3|for o4|for claude-|\
         for gemini-|free-models-per",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_money_that_is_gone() {
        for text in [
            "Your prepayment credits are depleted. Please go to AI Studio",
            "Budget has been exceeded! Current cost: 10.02, Max budget: 10.0",
            "ExceededBudget: User=x over budget. Spend=1, Budget=1",
            "用户额度不足, 剩余额度: 0",
            "余额不足或无可用资源包",
            "该令牌额度已用尽",
            "Your newly created teams doesn't have any credits yet.",
            "Your team has either used all available credits or reached its monthly spending limit.",
            "No payment method. Add a payment method here: x",
        ] {
            assert!(is_out_of_credit(&text.to_lowercase(), Dialect::Google), "{text}");
        }
        assert!(is_out_of_credit("user quota is not enough", Dialect::Other));
        for text in [
            "You have exhausted your capacity on this model.",
            "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day",
            "thinking budget exceeded",
            "load balancer: no healthy upstream, retries exhausted",
            "invalid credentials",
        ] {
            assert!(!is_out_of_credit(&text.to_lowercase(), Dialect::Other), "{text}");
        }
    }

    #[test]
    fn the_name_of_a_status_says_no_more_than_the_status() {
        for text in [
            "too many requests",
            "429 too many requests",
            "http 429: too many requests.",
            "error 429 (too many requests)",
        ] {
            assert!(is_status_phrase(text), "{text}");
        }
        for text in ["", "429", "too many requests per minute", "too many requests, try again in 5 s"] {
            assert!(!is_status_phrase(text), "{text}");
        }
    }

    #[test]
    fn reasons_of_429_messages() {
        use Reason::{ModelCapacityExhausted as Capacity, QuotaExhausted as Quota, RateLimitExceeded as Rate};
        for (text, expected) in [
            ("The model is overloaded", Some(Capacity)),
            ("No capacity available for model gemini-3-pro on the server", Some(Capacity)),
            ("You have exhausted your capacity on this model. Your quota will reset after 2h", Some(Quota)),
            ("Quota exceeded for quota metric 'x' per minute", Some(Rate)),
            ("Too many requests", Some(Rate)),
            ("Resource has been exhausted (e.g. check quota).", Some(Quota)),
            ("Resource exhausted. Please try again later.", Some(Capacity)),
            ("limit of 1000 messages per day", Some(Quota)),
            ("Rate limit exceeded: free-models-per-day", Some(Quota)),
            ("Rate limit reached", Some(Rate)),
            ("You've hit your limit", Some(Quota)),
            ("5-hour limit reached", Some(Quota)),
            ("x is temporarily rate-limited upstream. Please retry shortly", Some(Capacity)),
            ("m", None),
            ("", None),
        ] {
            assert_eq!(why_limited(&text.to_lowercase()), expected, "{text}");
        }
    }
}
