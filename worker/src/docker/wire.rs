//! HTTP to Docker Engine of our own, for answers that are streams: of JSON lines, or of an archive's bytes.
//!
//! Dropping a [`Lines`] or [`Pieces`] closes its connection, and Docker Engine then cancels the push or pull behind it (tried):
//! a worker that lost its lease really stops.

use super::host::DockerHost;
use super::{DockerError, Engine, error};
use bytes::{Buf, BytesMut};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

/// A request whose answer is a stream.
pub(super) struct Ask {
    /// What is wanted, for errors.
    pub(super) what: &'static str,
    pub(super) method: Method,
    /// Path and query, encoded.
    pub(super) path: String,
    /// The value of `X-Registry-Auth`.
    pub(super) auth: Option<HeaderValue>,
    /// The longest wait for the answer's head.
    pub(super) head: Duration,
    /// The longest silence between two pieces of the body; none for streams that may rest for ever.
    pub(super) idle: Option<Duration>,
}

/// Longest error body that is read.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// Longest line: Docker's are a few hundred bytes.
const LINE_BYTES_MAX: usize = 4 << 20;

/// The body of an answer, piece by piece.
#[derive(Debug)]
pub(super) struct Pieces {
    what: &'static str,
    body: Incoming,
    idle: Option<Duration>,
    // Holds the task that drives the connection, and ends it when dropped.
    _connection: JoinSet<()>,
}

/// JSON lines of an answer.
#[derive(Debug)]
pub(super) struct Lines {
    pieces: Pieces,
    buffer: BytesMut,
}

impl Engine {
    /// Sends `ask` over a connection of its own and waits for the head of the answer, whose body is JSON lines.
    pub(super) async fn stream(&self, ask: Ask) -> Result<Lines, DockerError> {
        Ok(Lines { pieces: self.pieces(ask).await?, buffer: BytesMut::new() })
    }

    /// Sends `ask` over a connection of its own and waits for the head of the answer.
    pub(super) async fn pieces(&self, ask: Ask) -> Result<Pieces, DockerError> {
        let (what, limit) = (ask.what, ask.head);
        match tokio::time::timeout(limit, self.open(ask)).await {
            Ok(answer) => answer,
            Err(_) => Err(DockerError::Timeout { what, limit }),
        }
    }

    async fn open(&self, ask: Ask) -> Result<Pieces, DockerError> {
        let what = ask.what;
        let unreachable = |e: std::io::Error| DockerError::Unreachable {
            what,
            host: self.host.to_string(),
            reason: e.to_string(),
        };
        let mut connection = JoinSet::new();
        let mut sender = match &*self.host {
            DockerHost::Unix(path) => {
                let socket = UnixStream::connect(path).await.map_err(unreachable)?;
                shake_hands(what, socket, &mut connection).await?
            }
            DockerHost::Tcp(address) => {
                let socket = TcpStream::connect(address).await.map_err(unreachable)?;
                shake_hands(what, socket, &mut connection).await?
            }
        };
        let mut request = Request::builder().method(ask.method).uri(&ask.path).header(HOST, "docker");
        if let Some(auth) = ask.auth {
            request = request.header("x-registry-auth", auth);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|e| DockerError::Answer { what, reason: e.to_string() })?;
        let answer = sender.send_request(request).await.map_err(|e| broken(what, &e))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(refusal(what, status, answer.into_body()).await);
        }
        Ok(Pieces { what, body: answer.into_body(), idle: ask.idle, _connection: connection })
    }
}

async fn shake_hands<S>(
    what: &'static str,
    socket: S,
    connection: &mut JoinSet<()>,
) -> Result<SendRequest<Empty<Bytes>>, DockerError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, driver) = http1::handshake(TokioIo::new(socket)).await.map_err(|e| broken(what, &e))?;
    // Its error is also the request's or the body's, and is told there.
    connection.spawn(async move { drop(driver.await) });
    Ok(sender)
}

fn broken(what: &'static str, e: &hyper::Error) -> DockerError {
    DockerError::Broken { what, reason: error::chain(e) }
}

async fn refusal(what: &'static str, status: StatusCode, body: Incoming) -> DockerError {
    #[derive(serde::Deserialize)]
    struct Message {
        message: String,
    }
    let bytes = match Limited::new(body, ERROR_BYTES_MAX).collect().await {
        Ok(whole) => whole.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let message = match serde_json::from_slice::<Message>(&bytes) {
        Ok(m) => m.message,
        Err(_) if bytes.is_empty() => status.to_string(),
        Err(_) => String::from_utf8_lossy(&bytes).trim().to_owned(),
    };
    DockerError::Refused { what, status: status.as_u16(), message }
}

impl Pieces {
    /// The next bytes, never none of them; nothing at the end of the answer. Safe to drop and call again.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, DockerError> {
        loop {
            let frame = match self.idle {
                None => self.body.frame().await,
                Some(limit) => match tokio::time::timeout(limit, self.body.frame()).await {
                    Ok(frame) => frame,
                    Err(_) => return Err(DockerError::Timeout { what: self.what, limit }),
                },
            };
            match frame {
                None => return Ok(None),
                Some(Err(e)) => return Err(broken(self.what, &e)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    _ => {}
                },
            }
        }
    }
}

impl Lines {
    /// The next line; none at the end of the stream. Safe to drop and call again: nothing is lost.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, DockerError> {
        loop {
            if let Some(line) = self.take_line() {
                return self.parse(&line).map(Some);
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(DockerError::Answer {
                    what: self.pieces.what,
                    reason: "a line without an end".into(),
                });
            }
            match self.pieces.next().await? {
                None if self.buffer.is_empty() => return Ok(None),
                None => {
                    let rest = self.buffer.split();
                    return self.parse(&rest).map(Some);
                }
                Some(data) => self.buffer.extend_from_slice(&data),
            }
        }
    }

    fn take_line(&mut self) -> Option<BytesMut> {
        loop {
            let end = self.buffer.iter().position(|b| *b == b'\n')?;
            let mut line = self.buffer.split_to(end);
            self.buffer.advance(1);
            while line.last() == Some(&b'\r') {
                line.truncate(line.len() - 1);
            }
            if !line.is_empty() {
                return Some(line);
            }
        }
    }

    fn parse<T: DeserializeOwned>(&self, line: &[u8]) -> Result<T, DockerError> {
        serde_json::from_slice(line).map_err(|e| DockerError::Answer {
            what: self.pieces.what,
            reason: format!("a line is no JSON: {e}"),
        })
    }
}

/// Encodes a value of a query.
pub(super) fn encode(value: &str) -> String {
    percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Encodes a repository as part of a path: slashes and the colon of a port stay.
pub(super) fn encode_repository(repository: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b':').remove(b'.').remove(b'-').remove(b'_');
    percent_encoding::utf8_percent_encode(repository, KEPT).to_string()
}
