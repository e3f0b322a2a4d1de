//! Admission of connections: which are open, and which is closed when there are too many. Connections that have not
//! shown a valid key have a small share of the places; each user of the machine has its own. The head of a request must
//! be complete within a time and a size, and all incomplete heads share a budget.

mod admitted;
mod head;
mod places;
mod raw_answer;
mod scan;

pub(super) use admitted::{AdmittedConnection, ConnectionAdmission};
pub(super) use head::{ConnectionEnd, ConnectionWatch, MAX_HEAD, WatchedBody};
pub(super) use places::PeerClass;
pub(super) use raw_answer::{no_place, too_large, too_late};
