//! A registry that keeps what came of a streamed upload when the line is cut, as distribution 3 does: the one that
//! can be installed here does not.

use anyhow::{Context as _, Result};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What it holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// The bytes of the one upload.
    pub(crate) bytes: Vec<u8>,
    /// How many bytes of each streamed request came.
    pub(crate) requests: Vec<usize>,
    /// Whether the upload was ended.
    pub(crate) done: bool,
}

pub(crate) struct Keeping {
    url: String,
    held: Arc<Mutex<Held>>,
    _server: JoinSet<()>,
}

impl Keeping {
    /// Starts one that cuts the line of the n-th streamed request after `cuts[n]` bytes; later ones it takes whole.
    pub(crate) async fn start(cuts: Vec<usize>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let url = format!("http://{}", listener.local_addr()?);
        let held = Arc::new(Mutex::new(Held::default()));
        let shared = held.clone();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut lines = JoinSet::new();
            while let Ok((line, _)) = listener.accept().await {
                let (held, cuts) = (shared.clone(), cuts.clone());
                lines.spawn(async move { drop(serve(line, &held, &cuts).await) });
            }
        });
        Ok(Self { url, held, _server: server })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(line: TcpStream, held: &Mutex<Held>, cuts: &[usize]) -> Result<()> {
    let mut line = BufReader::new(line);
    let mut first = String::new();
    line.read_line(&mut first).await?;
    let method = first.split(' ').next().unwrap_or_default().to_owned();
    loop {
        let mut header = String::new();
        line.read_line(&mut header).await?;
        if header.trim_end().is_empty() {
            break;
        }
    }
    if method == "PATCH" && !take(&mut line, held, cuts).await? {
        return Ok(());
    }
    let reply = {
        let mut held = lock(held);
        let length = held.bytes.len();
        let mut reply = "HTTP/1.1 ".to_owned();
        match method.as_str() {
            "HEAD" if held.done => write!(reply, "200 OK\r\nContent-Length: {length}\r\n")?,
            "HEAD" => reply.push_str("404 Not Found\r\nContent-Length: 0\r\n"),
            "GET" => reply.push_str("204 No Content\r\n"),
            "PUT" => {
                held.done = true;
                reply.push_str("201 Created\r\nContent-Length: 0\r\n");
            }
            _ => reply.push_str("202 Accepted\r\nContent-Length: 0\r\n"),
        }
        let last = length.saturating_sub(1);
        write!(
            reply,
            "Location: /v2/p1/base/blobs/uploads/u1\r\nRange: 0-{last}\r\nConnection: close\r\n\r\n"
        )?;
        reply
    };
    line.write_all(reply.as_bytes()).await?;
    line.shutdown().await?;
    Ok(())
}

/// Reads a chunked body; whether it came to its end.
async fn take(line: &mut BufReader<TcpStream>, held: &Mutex<Held>, cuts: &[usize]) -> Result<bool> {
    let request = lock(held).requests.len();
    lock(held).requests.push(0);
    let limit = cuts.get(request).copied().unwrap_or(usize::MAX);
    loop {
        let mut size = String::new();
        line.read_line(&mut size).await?;
        let size = usize::from_str_radix(size.trim(), 16).context("the size of a chunk")?;
        let mut chunk = vec![0; size + 2];
        line.read_exact(&mut chunk).await?;
        let mut held = lock(held);
        let room = limit - held.requests[request];
        let taken = size.min(room);
        held.bytes.extend_from_slice(&chunk[..taken]);
        held.requests[request] += taken;
        if size == 0 || taken < size {
            return Ok(size == 0);
        }
    }
}
