//! Single rules of seats, with times and accounts that a person can follow.
