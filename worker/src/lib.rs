//! The worker role: one per node; claims, runs and settles jobs.

pub mod docker;
pub mod gpus;
pub mod guard;
pub mod identity;
pub mod lock;
