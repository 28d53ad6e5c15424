//! The system seen from outside, on real servers.
