//! The scheduler role: attends to whatever is due.
