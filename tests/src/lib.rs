//! The system seen from outside, on real servers: what the suites share.

pub mod flow;
pub mod hunt;
pub mod image;
mod pairs;
pub mod people;
