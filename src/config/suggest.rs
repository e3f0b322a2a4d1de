//! What somebody probably meant.

use super::keys::KEYS;

/// The candidate nearest to a name, if one is near.
pub(super) fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // Nobody mistypes sixty characters, and the distance is quadratic.
    if name.len() > 64 {
        return None;
    }
    let typed = normal(name);
    let near = candidates.into_iter().map(|candidate| (distance(&typed, &normal(candidate)), candidate));
    let best = near.min_by_key(|(distance, _)| *distance)?;
    // A third of the letters may differ; more is another word.
    (best.0 <= (typed.len() / 3).max(1)).then_some(best.1)
}

/// Keys of other sections with this last name.
pub(super) fn elsewhere(name: &str) -> Option<&'static str> {
    KEYS.iter().map(|key| key.key).find(|key| key.rsplit('.').next() == Some(name) && !key.contains('*'))
}

/// ResolveCase and the kind of dash are what people mix up most.
fn normal(name: &str) -> Vec<char> {
    name.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// Edits between two names; swapped neighbours are one edit.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name() {
        let names = ["per_account", "overflow", "ttl", "grace"];
        for (typed, meant) in [
            ("per_acount", Some("per_account")),
            ("per-account", Some("per_account")),
            ("Overflow", Some("overflow")),
            ("tll", Some("ttl")),
            ("grcae", Some("grace")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, names), meant, "{typed}");
        }
    }
}
