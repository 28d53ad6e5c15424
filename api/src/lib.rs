//! The API role: HTTP in, job out. It records a job in the store, wakes a worker through the queue, and answers.
//!
//! | room | what is in it |
//! |---|---|
//! | [`v1`] | the `/v1` surface, and its JSON |
//! | [`keys`] | making and hashing API keys |
//! | `app` | shared state, and the order of the layers around every call |
//! | `access` | who calls, for which project, and whether they may |
//! | `guard` | around every call: id, time limit, counting, one form of refusal |
//! | `extract` | reading bodies, paths and queries, refusing in one form |
//! | `keep` | the page behind the link of a warning |
//! | `submit` | from a request to a recorded and published job |
//! | `metrics`, `scrape` | what is counted, and what is read from the store when asked |
//! | `health` | `/livez`, `/readyz`, `/metrics` |

#![expect(
    clippy::result_large_err,
    reason = "a refusal is the rare path; moving its bytes costs nothing there"
)]

mod access;
mod app;
mod bootstrap;
mod extract;
mod front;
mod guard;
mod health;
mod keep;
pub mod keys;
mod metrics;
mod parts;
mod problem;
mod rate;
mod scrape;
mod serve;
mod streams;
mod submit;
pub mod v1;

pub use app::router;
pub use bootstrap::bootstrap;
pub use health::health_router;
pub use metrics::Metrics;
pub use mothball_domain::container::MountRule;
pub use parts::{CatalogEntry, Limits, Parts, ReadyCheck, Settings};
pub use serve::{ServeError, serve, serve_router};
