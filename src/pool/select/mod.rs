//! Selection: which account a request gets, why the others cannot serve, and what will be free when.

pub(crate) mod account_set;
pub(crate) mod choose;
pub(crate) mod choose_by_index;
pub(crate) mod compare;
pub(crate) mod eligibility;
pub(crate) mod explain;
pub(crate) mod forecast;
pub(crate) mod index;
pub(crate) mod lane;
pub(crate) mod order;
pub(crate) mod place;
pub(crate) mod score;
pub(crate) mod strategy;
pub(crate) mod workspace;
