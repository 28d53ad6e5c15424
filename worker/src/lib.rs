//! The worker role: one per node; claims, runs and settles jobs.
