//! Text that must fit into a number of columns; different names stay different.

use std::collections::{BTreeMap, BTreeSet};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::cli::ui::{clean, cut};

/// What accounts are called, by their id.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(BTreeMap<String, String>);

impl Names {
    pub(super) fn new<'a>(names: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        Self(names.map(|(id, name)| (id.to_owned(), clean(name))).collect())
    }

    /// The width of the longest one.
    pub(super) fn longest(&self) -> usize {
        self.0.values().map(|name| name.width()).max().unwrap_or(0)
    }

    /// The names in at most `width` columns, all different: cut at the end, else in the middle, else with the end of
    /// the id.
    pub(super) fn fitted(&self, width: usize) -> Self {
        let mut fitted: BTreeMap<String, String> =
            self.0.iter().map(|(id, name)| (id.clone(), cut(name, width))).collect();
        let same = colliding(&fitted);
        if !same.is_empty() {
            let tail = (3..width.saturating_sub(2)).find(|tail| {
                let cuts: BTreeSet<String> = same.iter().map(|id| middle(&self.0[id], width, *tail)).collect();
                cuts.len() == same.len()
            });
            for id in same {
                let text = match tail {
                    Some(tail) => middle(&self.0[&id], width, tail),
                    None => with_id(&self.0[&id], &id, width),
                };
                fitted.insert(id, text);
            }
            // a name that was cut in the middle may be the name of another account
            for id in colliding(&fitted) {
                fitted.insert(id.clone(), with_id(&self.0[&id], &id, width));
            }
        }
        Self(fitted)
    }

    /// The name of an account; `otherwise` if it is not known.
    pub(super) fn get<'a>(&'a self, id: &str, otherwise: &'a str) -> &'a str {
        self.0.get(id).map_or(otherwise, String::as_str)
    }
}

/// The ids whose texts are not different.
fn colliding(texts: &BTreeMap<String, String>) -> Vec<String> {
    let mut ids: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
    texts.iter().for_each(|(id, text)| ids.entry(text).or_default().push(id));
    ids.into_values().filter(|ids| ids.len() > 1).flatten().cloned().collect()
}

/// The text in at most `width` columns, with its last `tail` letters.
fn middle(text: &str, width: usize, tail: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut end = String::new();
    for letter in text.chars().rev() {
        if end.width() + letter.width().unwrap_or(0) > tail {
            break;
        }
        end.insert(0, letter);
    }
    cut_end(text, width.saturating_sub(end.width() + 1)) + "…" + &end
}

/// The text, and the end of its id.
fn with_id(text: &str, id: &str, width: usize) -> String {
    const LETTERS: usize = 4;
    let end: String = id.chars().skip(id.chars().count().saturating_sub(LETTERS)).collect();
    let room = width.saturating_sub(end.width() + 1);
    if text.width() <= room { format!("{text} {end}") } else { cut_end(text, room) + "…" + &end }
}

/// The beginning of a text, without a mark that it was cut.
pub(super) fn cut_end(text: &str, width: usize) -> String {
    let mut used = 0;
    text.chars()
        .take_while(|letter| {
            used += letter.width().unwrap_or(0);
            used <= width
        })
        .collect()
}

/// A path in at most `width` columns: its end says more than its beginning.
pub(super) fn path(path: &str, home: Option<&str>, width: usize) -> String {
    let text = clean(path);
    let below = home.filter(|home| home.len() > 1).and_then(|home| text.strip_prefix(home));
    let text = match below {
        Some(rest) if rest.is_empty() || rest.starts_with(['/', '\\']) => format!("~{rest}"),
        _ => text,
    };
    if text.width() <= width { text } else { middle(&text, width, width.saturating_sub(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[(&str, &str)]) -> Names {
        Names::new(all.iter().copied())
    }

    #[test]
    fn different_accounts_never_have_the_same_text() {
        let same_beginning =
            [("ac_1111", "team-research-eu-west"), ("ac_2222", "team-research-eu-east"), ("ac_3", "x")];
        let same_ends = [("ac_1111", "ab-1-cdefgh-zz"), ("ac_2222", "ab-2-cdefgh-zz"), ("ac_3333", "abcdefghabc")];
        let same_names = [("ac_1111", "work"), ("ac_2222", "work"), ("ac_3333", "work 1111")];
        let wide = [("ac_1111", "漢字漢字漢字漢字一"), ("ac_2222", "漢字漢字漢字漢字二"), ("ac_3333", "")];
        for all in [&same_beginning, &same_ends, &same_names, &wide] {
            let names = names(all);
            for width in 10..30 {
                let fitted = names.fitted(width);
                let texts: BTreeSet<&String> = fitted.0.values().collect();
                assert_eq!(texts.len(), all.len(), "{width} {fitted:?}");
                assert!(texts.iter().all(|text| text.width() <= width), "{width} {fitted:?}");
            }
        }
        assert_eq!(names(&same_beginning).fitted(12).get("ac_1111", ""), "team-res…est");
    }

    #[test]
    fn a_path_is_cut_at_its_beginning() {
        let home = Some("/home/me");
        assert_eq!(path("/home/me/src/lessor", home, 40), "~/src/lessor");
        assert_eq!(path("/home/me", home, 40), "~");
        assert_eq!(path("/home/melanie/src", home, 40), "/home/melanie/src");
        assert_eq!(path("/home/me/src/very/deep/lessor", home, 12), "…deep/lessor");
        assert_eq!(path("/a\u{1b}b", None, 20), r"/a\u{1b}b");
    }
}
