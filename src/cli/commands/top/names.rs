//! Names that must fit into a number of columns, and stay different.

use std::collections::BTreeMap;

use unicode_width::UnicodeWidthStr;

use crate::cli::ui::clean;
use crate::cli::ui::distinct::{cut_distinct, last};

/// What accounts are called, by their id. All names are different.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(BTreeMap<String, String>);

impl Names {
    pub(super) fn new<'a>(names: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut names: BTreeMap<String, String> = names.map(|(id, name)| (id.to_owned(), clean(name))).collect();
        let mut known: BTreeMap<&String, usize> = BTreeMap::new();
        names.values().for_each(|name| *known.entry(name).or_default() += 1);
        // accounts of several providers may have the same address
        let same = names.iter().filter(|(_, name)| known[name] > 1);
        let same: Vec<(String, String)> = same.map(|(id, name)| (id.clone(), format!("{name} {id}"))).collect();
        names.extend(same);
        Self(names)
    }

    /// The width of the longest one.
    pub(super) fn longest(&self) -> usize {
        self.0.values().map(|name| name.width()).max().unwrap_or(0)
    }

    /// The names in at most `width` columns.
    pub(super) fn fitted(&self, width: usize) -> Self {
        let whole: Vec<&str> = self.0.values().map(String::as_str).collect();
        Self(self.0.keys().cloned().zip(cut_distinct(&whole, width)).collect())
    }

    /// The name of an account; `otherwise` if it is not known.
    pub(super) fn get<'a>(&'a self, id: &str, otherwise: &'a str) -> &'a str {
        self.0.get(id).map_or(otherwise, String::as_str)
    }
}

/// A path in at most `width` columns: its end says more than its beginning.
pub(super) fn path(path: &str, home: Option<&str>, width: usize) -> String {
    let text = clean(path);
    let below = home.filter(|home| home.len() > 1).and_then(|home| text.strip_prefix(home));
    let text = match below {
        Some(rest) if rest.is_empty() || rest.starts_with(['/', '\\']) => format!("~{rest}"),
        _ => text,
    };
    if text.width() <= width { text } else { format!("…{}", last(&text, width.saturating_sub(1))) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
        assert_eq!(names(&same_beginning).fitted(13).get("ac_1111", ""), "team-r…u-west");
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
