//! The API role: HTTP in, job out.

pub mod v1;
