//! What to break: rules choose requests, faults say what becomes of them, gates hold them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A request as the proxy saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
}

/// Chooses requests.
#[derive(Clone)]
pub struct Rule {
    matches: Arc<dyn Fn(&Request) -> bool + Send + Sync>,
    skip: usize,
    left: usize,
}

/// What becomes of a chosen request.
#[derive(Debug)]
pub enum Fault {
    /// It is answered by the proxy; the server does not see it.
    Answer {
        /// The status.
        status: u16,
        /// The body.
        body: String,
        /// More headers, each a whole line without its end.
        headers: Vec<String>,
    },
    /// The connection is closed when so many bytes of the request's body have reached the server.
    CutRequest {
        /// The bytes that pass.
        after: u64,
    },
    /// The connection is closed when so many bytes of the answer's body have passed.
    CutAnswer {
        /// The bytes that pass.
        after: u64,
    },
    /// The server does what it is asked, and the connection is closed instead of its answer.
    LoseAnswer,
    /// It is passed on after a while.
    Delay(Duration),
    /// The server does what it is asked, and its answer is held at a gate; made by
    /// [`Proxy::hold_answer`](super::Proxy::hold_answer).
    HoldAnswer {
        /// The gate.
        gate: Gate,
    },
    /// It is held at a gate; made by [`Proxy::hold`](super::Proxy::hold).
    Hold {
        /// The bytes of the body that pass before.
        after: u64,
        /// The gate.
        gate: Gate,
    },
}

/// Holds requests until it is opened.
#[derive(Debug, Default)]
pub struct Gate {
    inner: Arc<Inner>,
    inside: bool,
}

#[derive(Debug)]
struct Inner {
    held: watch::Sender<usize>,
    open: CancellationToken,
}

impl Rule {
    /// Chooses requests of this method (empty: any) whose path contains this part: all of them, until limited.
    pub fn on(method: &str, part: &str) -> Self {
        let (method, part) = (method.to_owned(), part.to_owned());
        Self::matching(move |request| {
            (method.is_empty() || request.method == method) && request.path.contains(&part)
        })
    }

    /// Chooses requests by a predicate.
    pub fn matching(matches: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        Self { matches: Arc::new(matches), skip: 0, left: usize::MAX }
    }

    /// Chooses so many of the matching requests and no more.
    #[must_use]
    pub fn times(mut self, count: usize) -> Self {
        self.left = count;
        self
    }

    /// Lets so many of the matching requests pass first.
    #[must_use]
    pub fn skip(mut self, count: usize) -> Self {
        self.skip = count;
        self
    }

    /// Whether the request is chosen; counts it if it matches.
    pub(super) fn choose(&mut self, request: &Request) -> bool {
        if self.left == 0 || !(self.matches)(request) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.left -= 1;
        true
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rule({} left)", self.left)
    }
}

impl Fault {
    /// Answers with a status and a body.
    pub fn answer(status: u16, body: &str) -> Self {
        Self::Answer { status, body: body.to_owned(), headers: Vec::new() }
    }

    /// What one request needs of the fault.
    pub(super) fn for_one(&self) -> Self {
        match self {
            Self::Answer { status, body, headers } => {
                Self::Answer { status: *status, body: body.clone(), headers: headers.clone() }
            }
            Self::CutRequest { after } => Self::CutRequest { after: *after },
            Self::CutAnswer { after } => Self::CutAnswer { after: *after },
            Self::LoseAnswer => Self::LoseAnswer,
            Self::Delay(time) => Self::Delay(*time),
            Self::HoldAnswer { gate } => Self::HoldAnswer { gate: gate.clone_inside() },
            Self::Hold { after, gate } => Self::Hold { after: *after, gate: gate.clone_inside() },
        }
    }
}

impl Gate {
    /// Waits until a request stands at the gate.
    pub async fn reached(&self, limit: Duration) -> Result<()> {
        let mut held = self.inner.held.subscribe();
        tokio::time::timeout(limit, held.wait_for(|count| *count > 0))
            .await
            .with_context(|| format!("no request reached the gate within {limit:?}"))?
            .context("watch a gate")?;
        Ok(())
    }

    /// Lets what stands at the gate go on, and everything after it.
    pub fn open(&self) {
        self.inner.open.cancel();
    }

    /// How many requests have reached the gate so far.
    pub fn count(&self) -> usize {
        *self.inner.held.borrow()
    }

    pub(super) async fn pass(&self) {
        self.inner.held.send_modify(|count| *count += 1);
        self.inner.open.cancelled().await;
    }

    pub(super) fn clone_inside(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), inside: true }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Only the test's own handle: those inside the proxy come and go with requests.
        if !self.inside {
            self.open();
        }
    }
}

impl Default for Inner {
    fn default() -> Self {
        Self { held: watch::Sender::new(0), open: CancellationToken::new() }
    }
}
