//! A chart for the terminal: requests served over time, one line for each set of rules.

use crate::cli::ui::{Output, Tint};
use crate::simulate::{Counted, Load, Rule};

const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const NAME: usize = 29;
const MAX_BARS: usize = 48;

/// The requests served in each part of the time, relative to the busiest part.
pub(super) fn served(load: &Load, results: &[(Rule, Counted)], usable: u64, output: &Output) -> String {
    let bars = MAX_BARS.min(output.width.saturating_sub(NAME + 3));
    let lines: Vec<Vec<u64>> = results.iter().map(|(_, counted)| parts(&counted.curve, bars)).collect();
    let most = lines.iter().flatten().copied().max().unwrap_or(0).max(usable.div_ceil(bars.max(1) as u64)).max(1);
    let minutes = load.hours * 60 / bars.max(1) as u64;
    let mut text = format!("requests served over time, one bar per {minutes} min\n");
    for ((rule, _), line) in results.iter().zip(&lines) {
        let drawn: String = line.iter().map(|part| bar(*part, most)).collect();
        let tint = if matches!(rule, Rule::Lessor(_)) { Tint::Good } else { Tint::Warn };
        text.push_str(&format!("{:<NAME$}  {}\n", rule.name(), output.tint(tint, &drawn)));
    }
    text
}

/// The requests served in each of `bars` equal parts of the curve.
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
    fn each_bar_is_the_requests_served_in_its_part() {
        assert_eq!(parts(&[1, 3, 6, 10], 4), [1, 2, 3, 4]);
        assert_eq!(parts(&[1, 3, 6, 10], 2), [3, 7]);
        assert_eq!(parts(&[], 2), [0, 0]);
        assert_eq!([0, 1, 4, 8].map(|part| bar(part, 8)), [' ', '▁', '▄', '█']);
    }
}
