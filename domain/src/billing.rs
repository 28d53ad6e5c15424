//! Money: exact decimals, from recorded transitions, never from sampling.
//!
//! | room | what is in it |
//! |---|---|
//! | [`Stretch`], [`Rate`], [`Stored`] | a stretch of a container's life and what it is metered at, fixed when it begins |
//! | [`Usage`] | what stretches add up to; nothing is divided before it is shown, so that parts and whole agree |
//! | [`Sheet`] | a page of the ledger: all that cost reports read, kept when the container is long gone |
//! | [`report`] | usage of a span of time, cut by container, user, project, flavor and day |
//! | [`sentences`] | the money line |

pub mod report;
pub mod sentences;
mod sheet;
mod stretch;
mod usage;

pub use report::{By, Cut, Key, Span, report};
pub use sheet::{Line, SHEET_LINES, Sheet};
pub use stretch::{Rate, Stored, Stretch};
pub use usage::{HOURS_OF_MONTH, Usage};
