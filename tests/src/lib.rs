//! The system seen from outside, on real servers: what the suites share.

pub mod flow;
pub mod hunt;
pub mod image;
pub mod moments;
mod pairs;
pub mod people;
pub mod soak;
pub mod writers;
