//! Words that make a text hard to read: see "Style" in CONTRIBUTING.md.

use crate::source::SourceFile;

/// Words and phrases that must not appear in `src`, in names, comments and strings alike.
const WORDS: &[&str] = &[
    "whoever",
    "nobody",
    "somebody",
    "anybody",
    "anew",
    "is told",
    "are told",
    "was told",
    "by itself",
    "by themselves",
    "goes first",
    "comes to nothing",
    "it is said",
    "who asks",
    "who waits",
    "asks for peace",
    "none of its own",
    "what is to come",
];

/// Lines with such words, as `path:line: word`; `allowed` lists (path, word) pairs that are quotes of other texts.
pub fn found(files: &[SourceFile], allowed: &[(&str, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let is_allowed = |word: &str| allowed.iter().any(|(path, known)| *path == file.path && *known == word);
        for (number, line) in file.text.lines().enumerate() {
            let words = words_in(line).filter(|word| !is_allowed(word));
            found.extend(words.map(|word| format!("{}:{}: {word}", file.path, number + 1)));
        }
    }
    found
}

fn words_in(line: &str) -> impl Iterator<Item = &'static str> {
    // names are words joined by `_`
    let line = format!(" {} ", line.to_lowercase().replace(|letter: char| !letter.is_alphabetic(), " "));
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = format!(" {line} ");
    WORDS.iter().copied().filter(move |word| line.contains(&format!(" {word} ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_comments_strings_and_names() {
        for (line, expected) in [
            ("// Nobody waits", vec!["nobody"]),
            ("let text = \"it is told\";", vec!["is told"]),
            ("fn whoever_asks() {}", vec!["whoever"]),
            ("fn who_waits_is_told() {}", vec!["is told", "who waits"]),
            ("// anewer; it is untold", vec![]),
            ("// a renewal", vec![]),
        ] {
            assert_eq!(words_in(line).collect::<Vec<_>>(), expected, "{line}");
        }
    }

    #[test]
    fn a_word_is_reported_with_its_place_unless_it_is_a_quote() {
        let files = [SourceFile::new("a.rs", "//! Fine.\n// somebody\n")];
        assert_eq!(found(&files, &[]), ["a.rs:2: somebody"]);
        assert!(found(&files, &[("a.rs", "somebody")]).is_empty());
        assert_eq!(found(&files, &[("b.rs", "somebody"), ("a.rs", "nobody")]).len(), 1);
    }
}
