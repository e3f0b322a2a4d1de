//! Where each value of a configuration came from.

use std::{collections::BTreeMap, ops::Range, path::PathBuf};

use super::{file::problem::ConfigProblem, schema::value::ConfigValue};

/// The source of every value, and the warnings.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins {
    pub(super) path: PathBuf,
    pub(super) set: BTreeMap<String, SetValue>,
    pub(super) sections: BTreeMap<String, (Range<usize>, u32)>,
    pub(super) warnings: Vec<ConfigProblem>,
}
#[derive(Clone, Debug)]
pub(super) struct SetValue {
    pub(super) value: ConfigValue,
    pub(super) origin: Origin,
    /// Its literal, if that is one line.
    pub(super) written: Option<String>,
}
#[derive(Clone, Debug)]
pub(super) enum Origin {
    File { line: u32, span: Range<usize> },
    Environment(&'static str),
}

/// Sources do not count when configurations are compared.
impl PartialEq for Origins {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
