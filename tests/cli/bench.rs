//! `bench`: every figure is measured, and nothing is left behind.

use super::support::Home;

#[test]
fn a_short_measurement_has_every_figure() {
    let home = Home::new();
    let mut command = home.command(&["bench", "--seconds", "2", "--json"]);
    let temporary = tempfile::tempdir().unwrap();
    command.env("TMPDIR", temporary.path());
    let done = super::support::feed(command, "").ok();
    let found: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert!(found["machine"]["cores"].as_u64().unwrap() >= 1, "{found}");
    assert_eq!(found["socket"].as_array().unwrap().len(), 4);
    assert_eq!(found["gateway"].as_array().unwrap().len(), 2);
    for row in found["socket"].as_array().unwrap().iter().chain(found["gateway"].as_array().unwrap()) {
        for figure in ["per_second", "ratio", "p50_us", "p99_us"] {
            assert!(row[figure].as_f64().unwrap() > 0.0, "{figure}: {row}");
        }
    }
    assert!(found["pool"].as_array().unwrap().iter().all(|row| row["ns"].as_f64().unwrap() > 0.0), "{found}");
    assert!(std::fs::read_dir(temporary.path()).unwrap().next().is_none(), "the directory is still there");
}
