//! The promises, by what they are about.

pub(super) mod indexes;
pub(super) mod records;
