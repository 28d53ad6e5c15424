//! The API role: HTTP in, job out.
