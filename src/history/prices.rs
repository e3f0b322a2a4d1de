//! What tokens cost: the user's own prices, and a built-in table.

use crate::pool::model_matches;
use crate::protocol::TokenSums;

/// The price of a model, in US dollars for a million tokens.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Price {
    /// Of input that neither comes from a cache nor is written to one.
    pub input: f64,
    /// Of output.
    pub output: f64,
    /// Of input that was read from a cache [default: as `input`].
    pub cached: Option<f64>,
    /// Of input that was written to a cache [default: as `input`].
    pub cache_written: Option<f64>,
}

/// The prices of models.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PriceTable {
    /// By pattern of the model's name, the most specific pattern first.
    own: Vec<(String, Price)>,
}

/// Names of models, without a date at their end, and the price of input, cached input, input that is written to a cache
/// (for 5 minutes), and output.
///
/// All were read on 2026-11-30, from stored copies of these pages, which are of September to November 2026:
///
/// - Anthropic: <https://platform.claude.com/docs/en/about-claude/pricing> ("Model pricing"), and for Opus 5.5, Sonnet 5
///   and Sonnet 5.5 the page `models/…/overview` of each. The copy of the latter says $0.20 for input from a cache; since
///   2026-10-07 it is $0.10, as the release notes of two programs that read the price list say (claudit 1.9.2, PromptFuel
///   1.0.23).
/// - OpenAI: `gpt-5-codex` from <https://developers.openai.com/api/docs/models/gpt-5-codex>. The others are what GitHub
///   charges for OpenAI's models, from `data/tables/copilot/models-and-pricing.yml` of github.com/github/docs.
/// - Google: input and output from the copy of <https://ai.google.dev/gemini-api/docs/pricing> in
///   github.com/api-evangelist/deepmind (2026-10-07), input from a cache from the table of GitHub.
///
/// Prices that depend on the length of a request or end at a date are left out (Haiku 5.5, GPT-5.4 to 5.6, most of
/// Gemini), and so are models for which one of the prices was not found.
const BUILT_IN: &[(&[&str], [f64; 4])] = &[
    (&["claude-fable-5-1", "claude-mythos-5-1"], [10.0, 0.25, 12.5, 50.0]),
    (&["claude-fable-5", "claude-mythos-5"], [10.0, 1.0, 12.5, 50.0]),
    (&["claude-opus-5-5"], [4.0, 0.2, 5.0, 20.0]),
    (
        &["claude-opus-5", "claude-opus-4-8", "claude-opus-4-7", "claude-opus-4-6", "claude-opus-4-5"],
        [5.0, 0.5, 6.25, 25.0],
    ),
    (&["claude-opus-4-1", "claude-opus-4", "claude-opus-4-0"], [15.0, 1.5, 18.75, 75.0]),
    (&["claude-sonnet-5-5"], [2.0, 0.1, 2.5, 10.0]),
    (&["claude-sonnet-5"], [2.0, 0.2, 2.5, 10.0]),
    (
        &["claude-sonnet-4-6", "claude-sonnet-4-5", "claude-sonnet-4", "claude-sonnet-4-0", "claude-3-7-sonnet"],
        [3.0, 0.3, 3.75, 15.0],
    ),
    (&["claude-haiku-4-5"], [1.0, 0.1, 1.25, 5.0]),
    (&["claude-3-5-haiku"], [0.8, 0.08, 1.0, 4.0]),
    (&["gpt-5-codex"], [1.25, 0.125, 1.25, 10.0]),
    (&["gpt-5.3-codex", "gpt-5.2-codex", "gpt-5.2"], [1.75, 0.175, 1.75, 14.0]),
    (&["gpt-5.4-mini"], [0.75, 0.075, 0.75, 4.5]),
    (&["gpt-5.4-nano"], [0.2, 0.02, 0.2, 1.25]),
    (&["gpt-5-mini"], [0.25, 0.025, 0.25, 2.0]),
    (&["gemini-3.5-flash"], [1.5, 0.15, 1.5, 9.0]),
];

impl PriceTable {
    /// Prices by patterns of names, which take precedence over the built-in ones.
    #[must_use]
    pub fn new(prices: impl IntoIterator<Item = (String, Price)>) -> Self {
        let mut own: Vec<(String, Price)> = prices.into_iter().collect();
        // more letters are more specific; of two with as many, the one with fewer wildcards
        let rank = |pattern: &str| {
            let wildcards = pattern.chars().filter(|letter| matches!(letter, '*' | '?')).count();
            (std::cmp::Reverse(pattern.chars().count() - wildcards), wildcards, pattern.to_owned())
        };
        own.sort_by_cached_key(|(pattern, _)| rank(pattern));
        Self { own }
    }

    /// What these tokens of a model cost, in US dollars; `None` if the table does not know the model.
    #[must_use]
    pub fn cost(&self, model: &str, tokens: &TokenSums) -> Option<f64> {
        let own = self.own.iter().find(|(pattern, _)| model_matches(pattern, model)).map(|(_, price)| *price);
        let price = own.or_else(|| built_in(model))?;
        let plain = tokens.input.saturating_sub(tokens.cached).saturating_sub(tokens.cache_written);
        let parts = [
            (plain, price.input),
            (tokens.cached, price.cached.unwrap_or(price.input)),
            (tokens.cache_written, price.cache_written.unwrap_or(price.input)),
            (tokens.output, price.output),
        ];
        Some(parts.iter().map(|(tokens, price)| *tokens as f64 * price / 1e6).sum())
    }
}

fn built_in(model: &str) -> Option<Price> {
    let name = without_date(model);
    let (_, [input, cached, cache_written, output]) =
        BUILT_IN.iter().find(|(names, _)| names.iter().any(|known| known.eq_ignore_ascii_case(name)))?;
    Some(Price { input: *input, output: *output, cached: Some(*cached), cache_written: Some(*cache_written) })
}

/// The name without the date of its version: `-20250929`, `@20250929`, `-2025-09-29` or `-latest`.
fn without_date(model: &str) -> &str {
    if let Some(name) = model.strip_suffix("-latest") {
        return name;
    }
    let begin = model.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '-').len();
    let end = &model[begin..];
    let is_date = |at: &usize| {
        let date = &end[*at..];
        let digits = date.chars().filter(char::is_ascii_digit).count();
        digits == 8 && date.trim_start_matches('-').starts_with("20")
    };
    // the name itself may end in digits: `claude-opus-4-5-20251101`
    let mut places = end.match_indices('-').map(|(at, _)| at).chain([0]);
    places.find(is_date).map_or(model, |at| model[..begin + at].trim_end_matches('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLION: u64 = 1_000_000;

    fn tokens(input: u64, output: u64, cached: u64, cache_written: u64) -> TokenSums {
        TokenSums { input, output, cached, cache_written }
    }

    fn price(input: f64) -> Price {
        Price { input, ..Price::default() }
    }

    #[test]
    fn a_version_of_a_model_costs_what_the_model_costs() {
        for (model, name) in [
            ("claude-opus-4-5-20251101", "claude-opus-4-5"),
            ("claude-sonnet-4-20250514", "claude-sonnet-4"),
            ("claude-opus-4-5@20251101", "claude-opus-4-5"),
            ("gpt-5-codex-2025-09-15", "gpt-5-codex"),
            ("gpt-5-codex-2025-09-20", "gpt-5-codex"),
            ("claude-3-7-sonnet-latest", "claude-3-7-sonnet"),
            ("claude-opus-4-5", "claude-opus-4-5"),
            ("claude-opus-5-5", "claude-opus-5-5"),
            ("gpt-2000", "gpt-2000"),
            ("20251101", ""),
            ("", ""),
        ] {
            assert_eq!(without_date(model), name, "{model}");
        }
        let table = PriceTable::default();
        assert_eq!(table.cost("claude-opus-4-5-20251101", &tokens(MILLION, 0, 0, 0)), Some(5.0));
        assert_eq!(table.cost("claude-opus-5-6", &tokens(MILLION, 0, 0, 0)), None, "a similar name is another model");
    }

    #[test]
    fn each_kind_of_token_has_its_price() {
        let table = PriceTable::default();
        assert_eq!(table.cost("claude-sonnet-4-5", &tokens(3 * MILLION, MILLION, MILLION, MILLION)), Some(22.05));
        let own = PriceTable::new([(
            "x".to_owned(),
            Price { input: 2.0, output: 4.0, cached: Some(1.0), cache_written: None },
        )]);
        assert_eq!(own.cost("x", &tokens(3 * MILLION, MILLION, MILLION, MILLION)), Some(9.0));
        assert_eq!(own.cost("x", &tokens(0, 0, MILLION, 0)), Some(1.0), "more cached than input is no negative price");
    }

    #[test]
    fn the_most_specific_of_the_own_prices_applies_before_the_built_in_ones() {
        let table = PriceTable::new(
            [("*", 1.0), ("claude-*", 2.0), ("claude-opus-*", 3.0), ("claude-opus-4-1", 4.0)]
                .map(|(pattern, input)| (pattern.to_owned(), price(input))),
        );
        for (model, wanted) in
            [("gpt-9", 1.0), ("claude-haiku-4-5", 2.0), ("claude-opus-9", 3.0), ("claude-opus-4-1", 4.0)]
        {
            assert_eq!(table.cost(model, &tokens(MILLION, 0, 0, 0)), Some(wanted), "{model}");
        }
    }
}
