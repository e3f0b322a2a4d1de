//! The text format of Prometheus.

use std::fmt::Write as _;

/// Metrics as Prometheus reads them.
#[derive(Debug, Default)]
pub(super) struct MetricsText(pub(super) String);

impl MetricsText {
    /// The name, type and description of the values that follow.
    pub(super) fn describe(&mut self, name: &str, kind: &str, help: &str) {
        // writing to a string cannot fail
        let _written = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// One value.
    pub(super) fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            self.0.push(if at == 0 { '{' } else { ',' });
            self.0.push_str(label);
            self.0.push_str("=\"");
            for letter in text.chars() {
                match letter {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    letter => self.0.push(letter),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _written = writeln!(self.0, " {value}");
    }
}
