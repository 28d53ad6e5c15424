//! A program that is told of things by webhook: it keeps what it is sent, and answers as a test wants.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// One message that came.
#[derive(Clone, Debug)]
pub struct Message {
    /// Path and query it was sent to.
    pub path: String,
    /// Its headers, by lower-case names.
    pub headers: BTreeMap<String, String>,
    /// Its body, byte for byte.
    pub body: Vec<u8>,
}

impl Message {
    /// A header, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct State {
    came: Vec<Message>,
    answers: VecDeque<(u16, Option<String>)>,
}

/// A receiver on a port of its own, gone when dropped.
#[derive(Debug)]
pub struct Receiver {
    port: u16,
    state: Arc<Mutex<State>>,
    _server: JoinSet<()>,
}

impl Receiver {
    /// Starts a receiver that answers 204.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("bind a receiver")?;
        let port = listener.local_addr().context("the receiver's address")?.port();
        let (state, mut server) = (Arc::new(Mutex::new(State::default())), JoinSet::new());
        server.spawn(serve(listener, Arc::clone(&state)));
        Ok(Self { port, state, _server: server })
    }

    /// Its address, on the loopback.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Answers the next message with this status.
    pub fn answer_next(&self, status: u16) {
        self.lock().answers.push_back((status, None));
    }

    /// Sends the next message on to another address.
    pub fn redirect_next(&self, to: &str) {
        self.lock().answers.push_back((307, Some(to.to_owned())));
    }

    /// What came so far, oldest first.
    pub fn came(&self) -> Vec<Message> {
        self.lock().came.clone()
    }

    /// What came of this kind.
    pub fn came_of(&self, event: &str) -> Vec<Message> {
        self.came().into_iter().filter(|message| message.json()["type"] == event).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&state)));
            // A client that hangs up is its own affair.
            let _hung_up = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let body = body.collect().await.map(|whole| whole.to_bytes().to_vec()).unwrap_or_default();
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let mut state = lock(&state);
    state.came.push(Message { path, headers, body });
    let (status, location) = state.answers.pop_front().unwrap_or((204, None));
    let mut response = Response::builder().status(status);
    if let Some(to) = location {
        response = response.header("location", to);
    }
    Ok(response.body(Full::default()).unwrap_or_default())
}
