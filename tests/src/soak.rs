//! How much of a test is run.

/// The small number in `make test`, the full one in `make soak`.
pub fn size(small: usize, full: usize) -> usize {
    if std::env::var_os("MOTHBALL_SOAK").is_some() { full } else { small }
}
