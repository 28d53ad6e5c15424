//! The proxy's thread: it listens, and serves each connection.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Address;
use super::relay::{self, Stream};
use super::rule::{Fault, Request, Rule};
use crate::claim::Claim;
use crate::place::Place;

const SWITCH_LIMIT: Duration = Duration::from_secs(10);

/// How the proxy treats connections at this moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mode {
    /// Connections are closed and refused.
    down: bool,
    /// Nothing is passed on.
    pub(super) frozen: bool,
    /// Connections of an earlier generation are closed.
    pub(super) generation: u64,
}

/// What the test's handle and the proxy's thread share.
#[derive(Debug)]
pub(super) struct State {
    upstream: Address,
    http: bool,
    rules: Mutex<Vec<(Rule, Fault)>>,
    requests: Mutex<Vec<Request>>,
    /// Requests on their way to the server or back, each with a number of its own.
    open: Mutex<BTreeMap<u64, Request>>,
    next: AtomicU64,
    mode: watch::Sender<Mode>,
    /// Whether the proxy listens now: `mode` says what should be, this what is.
    listening: watch::Sender<bool>,
}

/// What holds the proxy's address.
#[derive(Debug)]
pub(super) enum Listen {
    Tcp(Claim),
    Unix(Place),
}

/// What the proxy's thread owns.
pub(super) struct Server {
    pub(super) state: Arc<State>,
    pub(super) stop: CancellationToken,
    pub(super) address: Address,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listen {
    pub(super) fn address(&self) -> Address {
        match self {
            Self::Tcp(port) => Address::Tcp(format!("127.0.0.1:{}", port.number())),
            Self::Unix(place) => Address::Unix(place.path("proxy.sock")),
        }
    }
}

impl Listener {
    async fn bind(address: &Address) -> Result<Self> {
        Ok(match address {
            Address::Tcp(address) => Self::Tcp(TcpListener::bind(address).await.context("listen on a port")?),
            Address::Unix(path) => {
                let _absent = std::fs::remove_file(path);
                Self::Unix(UnixListener::bind(path).context("listen on a socket")?)
            }
        })
    }

    async fn accept(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

impl Server {
    /// Serves until told to stop.
    pub(super) fn run(self, ready: oneshot::Sender<Result<()>>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.listen(ready)),
            Err(error) => drop(ready.send(Err(error.into()))),
        }
    }

    async fn listen(self, ready: oneshot::Sender<Result<()>>) {
        let mut ready = Some(ready);
        let mut mode = self.state.subscribe();
        let mut connections = JoinSet::new();
        loop {
            let listener = Listener::bind(&self.address).await;
            let (listener, result) = match listener {
                Ok(listener) => (Some(listener), Ok(())),
                Err(error) => (None, Err(error)),
            };
            self.state.listening.send_replace(listener.is_some());
            if let Some(ready) = ready.take() {
                let _nobody = ready.send(result);
            }
            let Some(listener) = listener else { return };
            loop {
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    Ok(stream) = listener.accept() => {
                        connections.spawn(relay::serve(stream, Arc::clone(&self.state)));
                    }
                    Some(_ended) = connections.join_next() => {}
                    _down = mode.wait_for(|mode| mode.down) => break,
                }
            }
            // Without a listener the kernel refuses, as it does for a server that is not there.
            drop(listener);
            if let Address::Unix(path) = &self.address {
                let _absent = std::fs::remove_file(path);
            }
            connections.shutdown().await;
            self.state.listening.send_replace(false);
            tokio::select! {
                () = self.stop.cancelled() => return,
                _up = mode.wait_for(|mode| !mode.down) => {}
            }
        }
    }
}

impl State {
    pub(super) fn new(upstream: Address, http: bool) -> Self {
        Self {
            upstream,
            http,
            rules: Mutex::default(),
            requests: Mutex::default(),
            open: Mutex::default(),
            next: AtomicU64::new(0),
            mode: watch::Sender::new(Mode::default()),
            listening: watch::Sender::new(false),
        }
    }

    pub(super) fn upstream(&self) -> &Address {
        &self.upstream
    }

    pub(super) fn is_http(&self) -> bool {
        self.http
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Mode> {
        self.mode.subscribe()
    }

    pub(super) fn add(&self, rule: Rule, fault: Fault) {
        lock(&self.rules).push((rule, fault));
    }

    pub(super) fn clear(&self) {
        lock(&self.rules).clear();
    }

    /// Notes a request and finds what becomes of it.
    pub(super) fn choose(&self, request: &Request) -> Option<Fault> {
        lock(&self.requests).push(request.clone());
        let mut rules = lock(&self.rules);
        let chosen = rules.iter_mut().find_map(|(rule, fault)| rule.choose(request).then_some(fault));
        chosen.map(|fault| fault.for_one())
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        lock(&self.requests).clone()
    }

    /// Notes that a request is on its way until the answer is dropped.
    pub(super) fn open(&self, request: Request) -> Open<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.open).insert(number, request);
        Open { state: self, number }
    }

    pub(super) fn open_requests(&self) -> Vec<Request> {
        lock(&self.open).values().cloned().collect()
    }

    pub(super) fn forget(&self) {
        lock(&self.requests).clear();
    }

    pub(super) async fn set_down(&self, down: bool) -> Result<()> {
        self.mode.send_modify(|mode| mode.down = down);
        let mut listening = self.listening.subscribe();
        tokio::time::timeout(SWITCH_LIMIT, listening.wait_for(|listening| *listening != down))
            .await
            .context("switch a proxy")?
            .context("switch a proxy")?;
        Ok(())
    }

    pub(super) fn cut(&self) {
        self.mode.send_modify(|mode| mode.generation += 1);
    }

    pub(super) fn set_frozen(&self, frozen: bool) {
        self.mode.send_modify(|mode| mode.frozen = frozen);
    }
}

/// A request on its way.
pub(super) struct Open<'a> {
    state: &'a State,
    number: u64,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        lock(&self.state.open).remove(&self.number);
    }
}

/// A test that panicked with the lock held has failed already; the others' view of the rules is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
