//! Selection: which account a request gets, why the others cannot serve, and what will be free when.

pub(in crate::pool) mod choose;
pub(in crate::pool) mod eligibility;
pub(in crate::pool) mod explain;
pub(in crate::pool) mod forecast;
pub(in crate::pool) mod strategy;
