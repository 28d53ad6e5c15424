//! The `/v1` surface.

pub mod views;
