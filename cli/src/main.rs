//! Mothball.
fn main() {}
