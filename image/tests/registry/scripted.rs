//! A server that says what a test tells it to: for token servers, and for registries of other kinds and
//! moods than the one that can be installed here.

use anyhow::{Context as _, Result};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// By lower-case name.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What to say to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// How many bytes of the body to send before the line is cut.
    cut_at: Option<usize>,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// Says nothing and closes the line.
    pub(crate) fn hang_up() -> Self {
        Self::status(0)
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn cut_at(mut self, bytes: usize) -> Self {
        self.cut_at = Some(bytes);
        self
    }
}

type Script = dyn Fn(&Seen, usize) -> Reply + Send + Sync;

/// The server. It ends when it is dropped.
pub(crate) struct Scripted {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    _server: JoinSet<()>,
}

impl Scripted {
    /// Starts a server that answers by `script`, which is given each request and how many came before it.
    pub(crate) async fn start(
        script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let url = format!("http://{}", listener.local_addr()?);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, list): (Arc<Script>, _) = (Arc::new(script), seen.clone());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut lines = JoinSet::new();
            while let Ok((line, _)) = listener.accept().await {
                let (script, list) = (script.clone(), list.clone());
                lines.spawn(async move { drop(serve(line, &*script, &list).await) });
            }
        });
        Ok(Self { url, seen, _server: server })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(line: TcpStream, script: &Script, list: &Mutex<Vec<Seen>>) -> Result<()> {
    let mut line = BufReader::new(line);
    let mut first = String::new();
    line.read_line(&mut first).await?;
    let mut words = first.split_whitespace();
    let method = words.next().context("no method")?.to_owned();
    let target = words.next().context("no target")?.to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut text = String::new();
        line.read_line(&mut text).await?;
        let Some((name, value)) = text.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(Ok(0), |l| l.parse())?;
    let mut body = vec![0; length];
    line.read_exact(&mut body).await?;
    let seen = Seen { method, target, headers, body };
    let before = {
        let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(seen.clone());
        list.len() - 1
    };
    answer(&mut line, &seen, script(&seen, before)).await
}

async fn answer(line: &mut BufReader<TcpStream>, seen: &Seen, reply: Reply) -> Result<()> {
    if reply.status == 0 {
        return Ok(());
    }
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        write!(head, "{name}: {value}\r\n")?;
    }
    if !reply.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("content-length")) {
        write!(head, "Content-Length: {}\r\n", reply.body.len())?;
    }
    head.push_str("\r\n");
    line.write_all(head.as_bytes()).await?;
    if seen.method != "HEAD" {
        let end = reply.cut_at.unwrap_or(reply.body.len());
        line.write_all(&reply.body[..end]).await?;
    }
    line.flush().await?;
    line.shutdown().await?;
    Ok(())
}
