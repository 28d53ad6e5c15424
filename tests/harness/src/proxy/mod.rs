//! A proxy that breaks things on demand, in front of a registry, a Docker socket or a broker.
//!
//! It runs on a thread of its own, so that a test that blocks does not stop it. In HTTP mode it lets every connection carry
//! one request, which keeps it simple enough to be right; upgraded connections pass.

mod head;
mod relay;
mod rule;
mod serve;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;

pub use rule::{Fault, Gate, Request, Rule};

use crate::claim::Claim;
use crate::place::Place;
use serve::{Listen, Server, State};

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum Address {
    /// Host and port.
    Tcp(String),
    /// The path of a socket.
    Unix(PathBuf),
}

/// A proxy in front of one server, gone when dropped.
#[derive(Debug)]
pub struct Proxy {
    state: Arc<State>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
    listen: Listen,
}

impl Proxy {
    /// Starts a proxy that understands HTTP, on a port of its own.
    pub async fn http(upstream: Address) -> Result<Self> {
        Self::start(upstream, Listen::Tcp(Claim::port()?), true).await
    }

    /// Starts a proxy that understands HTTP, on a unix socket of its own: for a Docker Engine.
    pub async fn http_on_socket(upstream: Address) -> Result<Self> {
        Self::start(upstream, Listen::Unix(Place::new("proxy")?), true).await
    }

    /// Starts a proxy that passes bytes, on a port of its own: for brokers and stores.
    pub async fn tcp(upstream: Address) -> Result<Self> {
        Self::start(upstream, Listen::Tcp(Claim::port()?), false).await
    }

    async fn start(upstream: Address, listen: Listen, http: bool) -> Result<Self> {
        let state = Arc::new(State::new(upstream, http));
        let stop = CancellationToken::new();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let server = Server { state: Arc::clone(&state), stop: stop.clone(), address: listen.address() };
        let thread = std::thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || server.run(ready))
            .context("start a proxy")?;
        let proxy = Self { state, stop, thread: Some(thread), listen };
        is_ready.await.context("wait for a proxy")??;
        Ok(proxy)
    }

    /// Host and port to connect to; empty for a proxy on a unix socket.
    pub fn address(&self) -> String {
        match self.listen.address() {
            Address::Tcp(address) => address,
            Address::Unix(_) => String::new(),
        }
    }

    /// The URL to connect to: `http://…` or, as `DOCKER_HOST` wants it, `unix://…`.
    pub fn url(&self) -> String {
        match self.listen.address() {
            Address::Tcp(address) => format!("http://{address}"),
            Address::Unix(path) => format!("unix://{}", path.display()),
        }
    }

    /// Does to the requests that the rule chooses what the fault says. Rules added earlier go first.
    pub fn inject(&self, rule: Rule, fault: Fault) {
        self.state.add(rule, fault);
    }

    /// Holds the requests that the rule chooses before they reach the server, until the gate is opened or dropped.
    pub fn hold(&self, rule: Rule) -> Gate {
        self.hold_after(rule, 0)
    }

    /// Holds the requests that the rule chooses when this many bytes of their body have reached the server; zero holds the
    /// whole request.
    pub fn hold_after(&self, rule: Rule, body_bytes: u64) -> Gate {
        let gate = Gate::default();
        let fault = Fault::Hold { after: body_bytes, gate: gate.clone_inside() };
        self.state.add(rule, fault);
        gate
    }

    /// Holds the answers to the requests that the rule chooses: the server has done what it was asked by then.
    pub fn hold_answer(&self, rule: Rule) -> Gate {
        let gate = Gate::default();
        self.state.add(rule, Fault::HoldAnswer { gate: gate.clone_inside() });
        gate
    }

    /// Forgets all rules; what is held already stays held.
    pub fn clear(&self) {
        self.state.clear();
    }

    /// Every request seen so far, in order, also those answered by a fault.
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests()
    }

    /// Requests that are on their way to the server or back at this moment: not those that a gate holds before the server.
    pub fn open_requests(&self) -> Vec<Request> {
        self.state.open_requests()
    }

    /// How many requests were seen of this method (empty: any) whose path contains this part.
    pub fn count(&self, method: &str, part: &str) -> usize {
        let matches = |request: &&Request| {
            (method.is_empty() || request.method == method) && request.path.contains(part)
        };
        self.state.requests().iter().filter(matches).count()
    }

    /// Forgets the requests seen so far.
    pub fn forget(&self) {
        self.state.forget();
    }

    /// Closes all connections and refuses new ones.
    pub async fn down(&self) -> Result<()> {
        self.state.set_down(true).await
    }

    /// Accepts connections again.
    pub async fn up(&self) -> Result<()> {
        self.state.set_down(false).await
    }

    /// Closes all connections and accepts new ones.
    pub fn cut(&self) {
        self.state.cut();
    }

    /// Passes nothing on in either direction; connections stay open.
    pub fn freeze(&self) {
        self.state.set_frozen(true);
    }

    /// Passes on what was held back and goes on.
    pub fn thaw(&self) {
        self.state.set_frozen(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}
