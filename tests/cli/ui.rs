//! `ui`: the file that opens the page.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};

use super::support::{Home, eventually};

/// The files that open the page.
fn files(home: &Home) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(home.places().run).into_iter().flatten().flatten();
    let is_page = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "html");
    entries.map(|entry| entry.path()).filter(is_page).collect()
}

#[test]
fn a_signal_removes_the_file_that_opens_the_page() {
    let home = Home::new();
    home.run(&["ping"]).ok();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut command = home.command(&["ui"]);
        // a browser that opens nothing
        let mut ui = command.env("BROWSER", "true").spawn().unwrap();
        eventually("the file is there", || !files(&home).is_empty());
        kill_process(Pid::from_raw(i32::try_from(ui.id()).unwrap()).unwrap(), signal).unwrap();
        assert_eq!(ui.wait().unwrap().signal(), Some(signal.as_raw()));
        assert_eq!(files(&home), Vec::<PathBuf>::new());
    }
}
