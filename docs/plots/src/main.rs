//! Draws the plots of the documentation from `data/` into `docs/img/`, each for dark and for light pages.
//!
//! `data/simulate.json` is the output of `lessor simulate --json`; the other files name their source in their first line.

use std::error::Error;
use std::path::{Path, PathBuf};

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::Deserialize;

/// The size of a bar with its space, and of the columns of names and values, in pixels.
const BAR: i32 = 30;
const NAMES: i32 = 270;
const WIDTH: i32 = 860;
const VALUES: i32 = 80;
const TOP: i32 = 46;

/// What `lessor simulate --json` prints, as far as it is drawn.
#[derive(Deserialize)]
struct Simulation {
    rules: Vec<Rules>,
}

#[derive(Deserialize)]
struct Rules {
    name: String,
    served_share: f64,
    refusals_per_window: f64,
}

struct Bar {
    name: String,
    value: f64,
    /// One of lessor's, and not what it is compared with.
    is_ours: bool,
}

struct Plot {
    /// The beginning of the file's name.
    file: &'static str,
    title: &'static str,
    bars: Vec<Bar>,
    /// The value of a bar that takes the whole width.
    full: f64,
    words: fn(f64) -> String,
}

/// The colours of a page.
struct Palette {
    name: &'static str,
    background: RGBColor,
    text: RGBColor,
    ours: RGBColor,
    others: RGBColor,
}

const PALETTES: [Palette; 2] = [
    Palette {
        name: "dark",
        background: RGBColor(13, 17, 23),
        text: RGBColor(230, 237, 243),
        ours: RGBColor(63, 185, 80),
        others: RGBColor(139, 148, 158),
    },
    Palette {
        name: "light",
        background: RGBColor(255, 255, 255),
        text: RGBColor(31, 35, 40),
        ours: RGBColor(26, 127, 55),
        others: RGBColor(129, 139, 152),
    },
];

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let images = here.join("../img");
    for plot in plots(&here.join("data"))? {
        for palette in &PALETTES {
            let file = images.join(format!("{}-{}.svg", plot.file, palette.name));
            draw(&plot, palette, &file)?;
            println!("{}", file.display());
        }
    }
    Ok(())
}

fn plots(data: &Path) -> Result<Vec<Plot>, Box<dyn Error>> {
    let simulation: Simulation = serde_json::from_slice(&std::fs::read(data.join("simulate.json"))?)?;
    let by_rules = |value: fn(&Rules) -> f64| {
        let bar = |rules: &Rules| Bar {
            name: rules.name.clone(),
            value: value(rules),
            is_ours: rules.name.starts_with("lessor"),
        };
        simulation.rules.iter().map(bar).collect::<Vec<_>>()
    };
    Ok(vec![
        Plot {
            file: "quota-served",
            title: "Share of the usable quota that is served",
            bars: by_rules(|rules| rules.served_share),
            full: 1.0,
            words: |share| format!("{:.1} %", share * 100.0),
        },
        Plot {
            file: "limits-met",
            title: "429 answers for each quota window that had one (1 is the least possible)",
            bars: by_rules(|rules| rules.refusals_per_window),
            full: 13.0,
            words: |number| format!("{number:.2}"),
        },
        Plot {
            file: "socket",
            title: "Acquire + release over the socket, for each of a bare server that decides nothing",
            bars: table(&data.join("socket.csv"))?,
            full: 1.0,
            words: |ratio| format!("{ratio:.2}"),
        },
        Plot {
            file: "memory",
            title: "Memory of the daemon in MiB",
            bars: table(&data.join("memory.csv"))?,
            full: 50.0,
            words: |size| format!("{size} MiB"),
        },
    ])
}

/// The rows `"name",value` of a file; its first line says where they come from, its second names the columns.
fn table(file: &Path) -> Result<Vec<Bar>, Box<dyn Error>> {
    let text = std::fs::read_to_string(file)?;
    let rows = text.lines().skip(2).map(|line| {
        let (name, value) = line.rsplit_once(',').ok_or_else(|| format!("{}: {line}", file.display()))?;
        Ok(Bar { name: name.trim_matches('"').to_owned(), value: value.trim().parse()?, is_ours: true })
    });
    rows.collect()
}

fn draw(plot: &Plot, palette: &Palette, file: &Path) -> Result<(), Box<dyn Error>> {
    let height = TOP + BAR * i32::try_from(plot.bars.len())? + 12;
    let area = SVGBackend::new(file, (WIDTH.try_into()?, height.try_into()?)).into_drawing_area();
    area.fill(&palette.background)?;
    let font = |size: i32| ("sans-serif", size).into_font().color(&palette.text);
    area.draw(&Text::new(plot.title, (16, 14), font(16)))?;
    let most = f64::from(WIDTH - NAMES - VALUES);
    for (row, bar) in (0..).zip(&plot.bars) {
        let top = TOP + row * BAR;
        let middle = top + BAR / 2;
        let to_the_left = font(14).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new(bar.name.as_str(), (NAMES - 10, middle), to_the_left))?;
        #[expect(clippy::cast_possible_truncation, reason = "a width in pixels")]
        let end = NAMES + (most * (bar.value / plot.full).clamp(0.0, 1.0)).round() as i32;
        let colour = if bar.is_ours { palette.ours } else { palette.others };
        area.draw(&Rectangle::new([(NAMES, top + 5), (end, top + BAR - 5)], colour.filled()))?;
        let to_the_right = font(14).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new((plot.words)(bar.value), (end + 8, middle), to_the_right))?;
    }
    area.present()?;
    Ok(())
}
