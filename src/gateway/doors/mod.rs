//! The doors: which connections are open, and which of them has to go when there are too many. Connections that have not
//! shown a valid key have a small share of the places; each user of the machine has its own. The head of a request must be
//! whole within a time and a size, and all half-sent heads share a budget.

mod door;
mod head;
mod places;
mod raw_answer;

pub(super) use door::{Door, Doors};
pub(super) use head::{ConnectionEnd, ConnectionWatch, MAX_HEAD, WatchedBody};
pub(super) use places::PeerClass;
pub(super) use raw_answer::{no_place, too_large, too_late};
