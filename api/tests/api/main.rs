//! The surface, called in this process on the embedded store and the local queue: the pair that ships.

#![expect(clippy::unwrap_used, reason = "a world that cannot be set up is a failed test")]

mod access;
mod calls;
mod costs;
mod events;
mod fuzz;
mod health;
mod idempotency;
mod openapi;
mod paging;
mod preflight;
mod refusals;
mod retention;
mod schedules;
mod world;
