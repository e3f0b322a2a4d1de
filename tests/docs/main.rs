//! The documentation: its links lead somewhere, and its references say what the program does.

mod links;
mod pages;
mod reference;
