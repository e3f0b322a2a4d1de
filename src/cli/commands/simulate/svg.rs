//! A chart as SVG: requests served up to each moment, one line for each set of rules.

use std::fmt::Write;

use crate::simulate::{Counted, Load, Rule};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 610.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 410.0;
const ROWS: u64 = 5;
/// Greens and blues for lessor, warm colours for other tools; distinct for colour-blind readers.
const OWN: [&str; 5] = ["#0072b2", "#009e73", "#56b4e9", "#004d40", "#3b3b98"];
const OTHERS: [&str; 3] = ["#d55e00", "#e69f00", "#cc79a7"];

pub(super) fn draw(load: &Load, perfect: &Counted, results: &[(Rule, Counted)]) -> String {
    let most = results.iter().map(|(_, counted)| counted.served).fold(perfect.served, u64::max).max(1);
    let y = |served: u64| BOTTOM - (BOTTOM - TOP) * served as f64 / most as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">Requests served, {} agents on {} accounts</text>\n\
         <text x=\"{LEFT}\" y=\"42\" fill=\"#666666\">{} requests a minute and {} in five hours per account; seed {}; lessor simulate\
         </text>\n",
        load.agents, load.accounts, load.per_minute, load.per_five_hours, load.seed
    );
    for row in 0..=ROWS {
        let served = most * row / ROWS;
        let at = y(served);
        let _infallible = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#666666\">{served}</text>\n",
            LEFT - 8.0,
            at + 4.0
        );
    }
    for quarter in 0..=4 {
        let x = LEFT + (RIGHT - LEFT) * f64::from(quarter) / 4.0;
        let hour = load.hours as f64 * f64::from(quarter) / 4.0;
        let _infallible = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666666\">{hour} h</text>",
            BOTTOM + 20.0
        );
    }
    line(&mut svg, &perfect.curve, y, "#999999", "stroke-dasharray=\"5 4\" ");
    legend(&mut svg, 0, "#999999", "perfect knowledge", 1.0);
    let (mut own, mut others) = (OWN.iter().cycle(), OTHERS.iter().cycle());
    for (index, (rule, counted)) in results.iter().enumerate() {
        let colour = if matches!(rule, Rule::Lessor(_)) { own.next() } else { others.next() };
        let colour = colour.copied().unwrap_or("#000000");
        line(&mut svg, &counted.curve, y, colour, "");
        legend(&mut svg, index + 1, colour, rule.name(), counted.served as f64 / most as f64);
    }
    svg.push_str("</svg>\n");
    svg
}

fn line(svg: &mut String, curve: &[u64], y: impl Fn(u64) -> f64, colour: &str, style: &str) {
    let steps = curve.len().max(1) as f64;
    let mut points = format!("{LEFT:.1},{:.1}", y(0));
    for (at, served) in curve.iter().enumerate() {
        let x = LEFT + (RIGHT - LEFT) * (at + 1) as f64 / steps;
        let _infallible = write!(points, " {x:.1},{:.1}", y(*served));
    }
    let _infallible =
        writeln!(svg, "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\" {style}points=\"{points}\"/>");
}

fn legend(svg: &mut String, index: usize, colour: &str, name: &str, share: f64) {
    let at = TOP + 12.0 + 22.0 * index as f64;
    let (bar, text) = (RIGHT + 14.0, RIGHT + 34.0);
    let _infallible = write!(
        svg,
        "<rect x=\"{bar}\" y=\"{:.1}\" width=\"14\" height=\"3\" fill=\"{colour}\"/>\n\
         <text x=\"{text}\" y=\"{at:.1}\">{name} {:.1} %</text>\n",
        at - 5.0,
        100.0 * share
    );
}
