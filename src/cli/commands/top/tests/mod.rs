//! The dashboard as a whole: screens compared with kept ones, keys and the mouse.
//!
//! `LESSOR_UPDATE_SCREENS=1 cargo test --lib top::tests` writes the kept screens.

mod keys;
mod picture;
mod scenes;
mod screens;
