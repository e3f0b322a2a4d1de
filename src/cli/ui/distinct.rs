//! Names that are too long for their column: cut so that two different names never become the same text.

use rustc_hash::{FxHashMap, FxHashSet};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::wrap::cut;

/// The texts in at most `width` columns, in the same order. Different texts stay different, wherever they differ.
pub(crate) fn cut_distinct(texts: &[&str], width: usize) -> Vec<String> {
    let mut all: Vec<&str> = texts.to_vec();
    all.sort_unstable();
    all.dedup();
    let short = in_one_way(&all, width).unwrap_or_else(|| one_by_one(&all, width));
    let by_text: FxHashMap<&str, &String> = all.into_iter().zip(&short).collect();
    texts.iter().map(|text| by_text.get(text).map_or_else(String::new, |short| (*short).clone())).collect()
}

/// All texts cut at their end, else in their middle, else at their beginning, if that keeps them apart.
fn in_one_way(all: &[&str], width: usize) -> Option<Vec<String>> {
    let room = width.saturating_sub(1);
    let ways: [&dyn Fn(&str) -> String; 4] = [
        &|text| cut(text, width),
        &|text| around(text, room - room / 2, room / 2),
        &|text| around(text, room / 3, room - room / 3),
        &|text| around(text, 0, room),
    ];
    let ways = ways.iter().map(|way| {
        let short = |text: &&str| if text.width() <= width { (*text).to_owned() } else { way(text) };
        all.iter().map(short).collect::<Vec<String>>()
    });
    let are_distinct = |short: &Vec<String>| short.iter().collect::<FxHashSet<_>>().len() == short.len();
    ways.into_iter().find(are_distinct)
}

/// Each text shows its beginning and the place where it differs from the others; if that is not enough, a number.
fn one_by_one(all: &[&str], width: usize) -> Vec<String> {
    let mut used: FxHashSet<String> =
        all.iter().filter(|text| text.width() <= width).map(|text| (*text).into()).collect();
    let common = |a: &str, b: &str| a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let mut short = Vec::with_capacity(all.len());
    for (index, text) in all.iter().enumerate() {
        if text.width() <= width {
            short.push((*text).to_owned());
            continue;
        }
        // they are sorted: the neighbours have the longest common beginning
        let neighbours = [index.checked_sub(1), Some(index + 1)];
        let neighbours = neighbours.into_iter().flatten().filter_map(|index| all.get(index));
        let differs_at = neighbours.map(|other| common(text, other)).max().unwrap_or(0);
        let room = width.saturating_sub(2);
        let cuts = [room / 2, room / 3, 0].map(|head| {
            let rest: String = text.chars().skip(differs_at).collect();
            format!("{}…{}", first(text, head), cut(&rest, width.saturating_sub(1 + first(text, head).width())))
        });
        let numbered = (1..).map(|number: usize| {
            let number = format!("…{number}");
            first(text, width.saturating_sub(number.width())) + &number
        });
        let free = cuts.into_iter().chain(numbered.take(all.len() + 1)).find(|cut| !used.contains(cut));
        let free = free.unwrap_or_else(|| cut(text, width));
        used.insert(free.clone());
        short.push(free);
    }
    short
}

/// The beginning and the end of a text, with an ellipsis between them.
fn around(text: &str, head: usize, tail: usize) -> String {
    format!("{}…{}", first(text, head), last(text, tail))
}

/// The letters at the beginning that fit into `width` columns.
pub(crate) fn first(text: &str, width: usize) -> String {
    let mut taken = 0;
    let fits = |letter: &char| {
        taken += letter.width().unwrap_or(0);
        taken <= width
    };
    text.chars().take_while(fits).collect()
}

/// The letters at the end that fit into `width` columns.
pub(crate) fn last(text: &str, width: usize) -> String {
    let mut taken = 0;
    let fits = |letter: &char| {
        taken += letter.width().unwrap_or(0);
        taken <= width
    };
    let backwards: Vec<char> = text.chars().rev().take_while(fits).collect();
    backwards.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_cut_where_they_do_not_differ() {
        let cut = |names: &[&str], width| cut_distinct(names, width).join(" ");
        assert_eq!(cut(&["work", "home"], 4), "work home");
        assert_eq!(cut(&["a-long-name", "another-one"], 6), "a-lon… anoth…");
        assert_eq!(cut(&["team-anna@example.org", "team-bert@example.net"], 12), "team-anna@e… team-bert@e…");
        assert_eq!(cut(&["someone+1@example.org", "someone+2@example.org"], 12), "someone+1@e… someone+2@e…");
        let long = ["long-beginning-1-long-end", "long-beginning-2-long-end"];
        assert_eq!(cut(&long, 12), "…-1-long-end …-2-long-end");
        assert_eq!(cut(&long, 10), "long…1-lo… long…2-lo…");
        assert_eq!(cut(&["same-long-name", "same-long-name"], 8), "same-lo… same-lo…");
        let short = cut_distinct(&["abcdefgh", "abcdefgi", "abcde…"], 6);
        assert!(short[0] != short[1] && short[2] == "abcde…", "{short:?}");
    }

    proptest! {
        #[test]
        fn different_texts_stay_different_and_fit(
            texts in proptest::collection::vec("(common-beginning-)?[ab漢e\u{301}]{0,24}(-common-end@example)?", 1..60),
            width in 6usize..60,
        ) {
            let all: Vec<&str> = texts.iter().map(String::as_str).collect();
            let short = cut_distinct(&all, width);
            for (index, one) in short.iter().enumerate() {
                prop_assert!(one.width() <= width, "{one:?} in {width}");
                for other in 0..index {
                    prop_assert_eq!(all[index] == all[other], *one == short[other], "{} {}", all[index], all[other]);
                }
            }
        }
    }
}
