//! What is sent.

use crate::error::RegistryError;
use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Body, Method, Url};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The slowest line that an upload's limit reckons with, in bytes a second.
const SLOWEST_LINE: u64 = 256 * 1024;

/// One request, as often as it is sent.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// A verb phrase, for errors and logs.
    pub(crate) what: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) headers: HeaderMap,
    /// The body in pieces, sent one after another without being joined.
    pub(crate) body: Vec<Bytes>,
    /// A body that can be sent only once, instead of `body`.
    pub(crate) once: Once,
    /// Longest wait for one send, its answer's body included.
    pub(crate) timeout: Duration,
    /// Longest body of an answer.
    pub(crate) body_max: usize,
    /// Whether sending it twice does no harm.
    pub(crate) repeat: bool,
    /// Whether the body of a good answer is left to the caller.
    pub(crate) stream: bool,
}

impl Call {
    /// Asks for leave to read, write or delete in a repository.
    pub(crate) fn scope(mut self, repo: &str, actions: &str) -> Self {
        self.scopes.push(format!("repository:{repo}:{actions}"));
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(name, value);
        }
        self
    }

    /// Sets the body, and gives the call the time that a slow line needs for it.
    pub(crate) fn body(mut self, pieces: Vec<Bytes>) -> Self {
        self.body = pieces;
        self.timeout += Duration::from_secs(self.body_bytes() / SLOWEST_LINE);
        self
    }

    pub(crate) fn body_bytes(&self) -> u64 {
        self.body.iter().map(|b| b.len() as u64).sum()
    }
}

/// A body that streams, and so can be sent only once.
#[derive(Debug, Default)]
pub(crate) struct Once {
    body: Mutex<Option<Body>>,
    streams: bool,
}

impl Once {
    pub(crate) fn new(body: Body) -> Self {
        Self { body: Mutex::new(Some(body)), streams: true }
    }

    /// The body; nothing when the call has none of this kind, an error when it was sent before.
    pub(super) fn take(&self, what: &str) -> Result<Option<Body>, RegistryError> {
        let body = self.body.lock().unwrap_or_else(PoisonError::into_inner).take();
        if self.streams && body.is_none() {
            let detail = "it wants the credentials anew, and the stream is spent".to_owned();
            return Err(RegistryError::Network { what: what.to_owned(), detail });
        }
        Ok(body)
    }
}
