//! The store from outside, on real servers: what it promises ([`contract`]), what random histories do to it ([`model`]),
//! what a crowd does to it ([`racing`]).

mod contract;
mod model;
mod month;
mod racing;
mod world;
