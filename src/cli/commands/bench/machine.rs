//! The machine that is measured.

use schemars::JsonSchema;
use serde::Serialize;

/// The machine that was measured.
#[derive(Clone, PartialEq, Debug, Serialize, JsonSchema)]
pub(super) struct Machine {
    /// The cores that this program may use.
    pub(super) cores: usize,
    /// The system and its processors, as in `linux x86_64`.
    pub(super) system: String,
    /// How many processes wanted to run in the last minute, before the measurement; not every system says.
    pub(super) load: Option<f64>,
    /// Whether the program was built with optimisation.
    pub(super) optimized: bool,
}

impl Machine {
    pub(super) fn now() -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            load: load(),
            optimized: !cfg!(debug_assertions),
        }
    }

    /// What makes the figures worse than they could be.
    pub(super) fn warning(&self) -> Option<String> {
        if !self.optimized {
            return Some("this is a debug build; its figures mean little".to_owned());
        }
        let load = self.load.filter(|load| *load > self.cores as f64 / 2.0)?;
        Some(format!(
            "the machine is busy (load {load:.1} on {} cores); the ratios say more than the rates",
            self.cores
        ))
    }

    /// `2 cores, linux x86_64, load 0.4`
    pub(super) fn text(&self) -> String {
        let load = self.load.map(|load| format!(", load {load:.1} before")).unwrap_or_default();
        let cores = crate::cli::ui::format::count(self.cores, "core");
        format!("{cores}, {}{load}", self.system)
    }
}

#[cfg(target_os = "linux")]
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// `{ 1.23 1.11 0.98 }`
#[cfg(target_os = "macos")]
fn load() -> Option<f64> {
    let output = std::process::Command::new("/usr/sbin/sysctl").args(["-n", "vm.loadavg"]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn load() -> Option<f64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_machine_and_a_debug_build_are_named() {
        let machine = |load, optimized| Machine { cores: 4, system: "x".to_owned(), load, optimized };
        assert_eq!(machine(Some(1.9), true).warning(), None);
        assert_eq!(machine(None, true).warning(), None);
        assert!(machine(Some(2.1), true).warning().unwrap().contains("busy (load 2.1 on 4 cores)"));
        assert!(machine(Some(0.0), false).warning().unwrap().contains("debug"));
    }
}
