//! Bars for a terminal: what was served over time, one line for each set of rules.

use crate::cli::output::{Output, Tint};
use crate::simulate::{Counted, Load, Rule};

/// From nothing to everything.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Letters of a name.
const NAME: usize = 29;
/// Bars of a line.
const MOST_BARS: usize = 48;

/// What each part of the time served, against the most that any part did.
pub(super) fn served(load: &Load, results: &[(Rule, Counted)], usable: u64, output: &Output) -> String {
    let bars = MOST_BARS.min(output.width.saturating_sub(NAME + 3));
    let lines: Vec<Vec<u64>> = results.iter().map(|(_, counted)| parts(&counted.curve, bars)).collect();
    let most = lines.iter().flatten().copied().max().unwrap_or(0).max(usable.div_ceil(bars.max(1) as u64)).max(1);
    let minutes = load.hours * 60 / bars.max(1) as u64;
    let mut text = format!("served over time, a bar for each {minutes} min\n");
    for ((rule, _), line) in results.iter().zip(&lines) {
        let drawn: String = line.iter().map(|part| bar(*part, most)).collect();
        let tint = if matches!(rule, Rule::Lessor(_)) { Tint::Good } else { Tint::Warn };
        text.push_str(&format!("{:<NAME$}  {}\n", rule.name(), output.tint(tint, &drawn)));
    }
    text
}

/// The curve, cut into so many parts.
fn parts(curve: &[u64], bars: usize) -> Vec<u64> {
    let until = |n: usize| (n * curve.len()).checked_div(bars).unwrap_or(0).checked_sub(1).map_or(0, |at| curve[at]);
    (0..bars).map(|n| until(n + 1) - until(n)).collect()
}

fn bar(part: u64, most: u64) -> char {
    let eighths = (part * 8).div_ceil(most) as usize;
    BARS[eighths.min(8)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_what_each_part_served() {
        assert_eq!(parts(&[1, 3, 6, 10], 4), [1, 2, 3, 4]);
        assert_eq!(parts(&[1, 3, 6, 10], 2), [3, 7]);
        assert_eq!(parts(&[], 2), [0, 0]);
        assert_eq!([0, 1, 4, 8].map(|part| bar(part, 8)), [' ', '▁', '▄', '█']);
    }
}
