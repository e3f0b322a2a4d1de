//! Templates with `@WORDS@` as placeholders.

pub(super) fn fill(template: &str, words: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (literal, word) in pieces(template) {
        text.push_str(literal);
        if let Some(name) = word {
            let value = words.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
            text.push_str(value.unwrap_or_default());
        }
    }
    text
}

/// The value of a placeholder, and whether the rest of the text matches the template.
pub(super) fn read<'a>(template: &str, text: &'a str, wanted: &str) -> (Option<&'a str>, bool) {
    let pieces: Vec<_> = pieces(template).collect();
    let Some(mut rest) = pieces.first().and_then(|(literal, _)| text.strip_prefix(literal)) else {
        return (None, false);
    };
    let mut found = None;
    for ((_, word), (next, after)) in pieces.iter().zip(pieces.iter().skip(1)) {
        // the last literal must be at the end
        let at = if after.is_none() { rest.ends_with(next).then(|| rest.len() - next.len()) } else { rest.find(next) };
        let Some(at) = at else { return (found, false) };
        if *word == Some(wanted) {
            found = found.or(Some(&rest[..at]));
        }
        rest = &rest[at + next.len()..];
    }
    (found, rest.is_empty())
}

/// The pieces of a template: literal text, and the placeholder that follows it.
fn pieces(template: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let mut rest = Some(template);
    std::iter::from_fn(move || {
        let text = rest?;
        let word = text.match_indices('@').find_map(|(start, _)| {
            let after = &text[start + 1..];
            let end = after.find('@')?;
            let name = &after[..end];
            let is_word = !name.is_empty() && name != "WORDS" && name.bytes().all(|byte| byte.is_ascii_uppercase());
            is_word.then_some((start, name))
        });
        let Some((start, name)) = word else {
            rest = None;
            return Some((text, None));
        };
        rest = Some(&text[start + name.len() + 2..]);
        Some((&text[..start], Some(name)))
    })
}

/// Letters and their escapes in XML; `&`, which is in each escape, is the first.
const ESCAPES: [(&str, &str); 5] = [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&quot;"), ("'", "&apos;")];

pub(super) fn xml(text: &str) -> String {
    ESCAPES.iter().fold(text.to_owned(), |text, (letter, escape)| text.replace(letter, escape))
}

pub(super) fn unxml(text: &str) -> String {
    ESCAPES.iter().rev().fold(text.to_owned(), |text, (letter, escape)| text.replace(escape, letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "# @WORDS@ and a@b\n<@ONE@> <@TWO@>\n@ONE@ end\n";

    #[test]
    fn placeholders_are_filled_in_and_read_back() {
        let text = fill(TEMPLATE, &[("ONE", "1@x"), ("TWO", "")]);
        assert_eq!(text, "# @WORDS@ and a@b\n<1@x> <>\n1@x end\n");
        assert_eq!(read(TEMPLATE, &text, "ONE"), (Some("1@x"), true));
        assert_eq!(read(TEMPLATE, &text, "TWO"), (Some(""), true));
        for other in ["", "# @WORDS@ and a@b\n<1> <2>\n1 End\n", &format!("{text}more"), &text.replace("> <", ">  <")] {
            assert!(!read(TEMPLATE, other, "ONE").1, "{other}");
        }
        assert_eq!(read("no words", "no words", "ONE"), (None, true));
        assert_eq!(read("no words", "no words!", "ONE"), (None, false));
    }

    #[test]
    fn xml_escapes_are_read_back() {
        let text = "a<b>&\"c' &amp; ü";
        assert_eq!(xml(text), "a&lt;b&gt;&amp;&quot;c&apos; &amp;amp; ü");
        assert_eq!(unxml(&xml(text)), text);
    }
}
