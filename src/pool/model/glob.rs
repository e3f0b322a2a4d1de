//! Patterns of model names: `*` matches any characters, `?` matches one; case does not matter.

/// Whether `pattern` matches `text`. Takes at most `pattern.len() * text.len()` steps.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // what follows the last star, and the text it was last tried on
    let mut star = None;
    loop {
        let here = text.clone();
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                star = Some((pattern.clone(), here.clone()));
                text = here;
            }
            (Some(letter), Some(found)) if letter == '?' || letter.to_lowercase().eq(found.to_lowercase()) => {}
            _ => {
                // let the star match one more character
                let Some((after, tried)) = &mut star else { return false };
                if tried.next().is_none() {
                    return false;
                }
                (pattern, text) = (after.clone(), tried.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_matches_any_characters_and_a_question_mark_matches_one() {
        for (pattern, text, wanted) in [
            ("claude-opus*", "claude-opus-4-1", true),
            ("claude-opus*", "claude-opus", true),
            ("claude-opus*", "claude-sonnet-4", false),
            ("CLAUDE-*", "claude-x", true),
            ("*opus*", "claude-OPUS-4", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxbxxaxx", false),
            ("é*", "École", true),
            ("a**b", "ab", true),
        ] {
            assert_eq!(matches(pattern, text), wanted, "{pattern} {text}");
        }
        let long = "a".repeat(5_000);
        assert!(!matches(&"a*".repeat(20).replace("a*a*", "a*a*b"), &long));
    }
}
