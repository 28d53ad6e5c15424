//! What can go wrong with the store itself. What a rule refuses is an outcome, not an error.

/// Why an operation could not be done, or may not have been done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The server or file cannot be used now. The operation may have been done or not; it can be repeated.
    #[error("the store cannot be used: {0}")]
    Unavailable(String),
    /// Too many others changed the same records at the same time. Nothing was done; it can be repeated.
    #[error("the store is too busy: the operation was tried {0} times")]
    Contended(u32),
    /// A record cannot be read or written as what it should be.
    #[error("a record of the store is not as it should be: {0}")]
    Corrupt(String),
    /// What is asked for is more than can be answered at once.
    #[error("that is too much at once: {0}")]
    TooMuch(String),
    /// The settings cannot work.
    #[error("{0}")]
    Settings(String),
    /// Another process has the embedded store open.
    #[error(
        "the store {0} is open in another process: stop that one, or use Redis for more than one process"
    )]
    InUse(String),
}
