//! A scripted Docker on a unix socket: it says what no real one can be brought to say at will.

#![expect(clippy::unwrap_used, reason = "a scripted Docker that cannot start is a failed test")]

use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// What the scripted Docker does with a request whose head contains the key.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A whole answer.
    Json(u16, &'static str),
    /// The head of a stream, these pieces, and the regular end.
    Stream(Vec<&'static str>),
    /// The head of a stream, these pieces, and then the connection breaks.
    Broken(Vec<&'static str>),
    /// The head of a stream, these pieces, and then silence until the client leaves.
    Silent(Vec<&'static str>),
    /// Not even a head.
    Mute,
}

/// A scripted Docker.
pub(crate) struct Scripted {
    dir: tempfile::TempDir,
    seen: Arc<Mutex<Vec<String>>>,
    left: Arc<Mutex<u32>>,
    _task: JoinSet<()>,
}

impl Scripted {
    /// Listens, and answers by the first key of `script` that a request's head contains.
    pub(crate) fn start(script: Vec<(&'static str, Answer)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("d.sock")).unwrap();
        let (seen, left) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let mut task = JoinSet::new();
        let (seen_by, left_by) = (seen.clone(), left.clone());
        task.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                clients.spawn(serve(socket, script.clone(), seen_by.clone(), left_by.clone()));
            }
        });
        Self { dir, seen, left, _task: task }
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}/d.sock", self.dir.path().display())
    }

    /// The heads of the requests so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// How many clients left while they were kept waiting.
    pub(crate) fn left(&self) -> u32 {
        *self.left.lock().unwrap()
    }
}

async fn serve(
    mut socket: UnixStream,
    script: Vec<(&'static str, Answer)>,
    seen: Arc<Mutex<Vec<String>>>,
    left: Arc<Mutex<u32>>,
) {
    let head = read_head(&mut socket).await;
    seen.lock().unwrap().push(head.clone());
    let found = script.iter().find(|(key, _)| head.contains(key)).map(|(_, answer)| answer.clone());
    match found.unwrap_or(Answer::Json(404, r#"{"message":"page not found"}"#)) {
        Answer::Json(status, body) => {
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nContent-Type: application/json\r\n\r\n",
                body.len()
            );
            send(&mut socket, &(head + body)).await;
        }
        Answer::Stream(pieces) => {
            stream(&mut socket, &pieces).await;
            send(&mut socket, "0\r\n\r\n").await;
        }
        Answer::Broken(pieces) => stream(&mut socket, &pieces).await,
        Answer::Silent(pieces) => {
            stream(&mut socket, &pieces).await;
            wait_until_left(&mut socket, &left).await;
        }
        Answer::Mute => wait_until_left(&mut socket, &left).await,
    }
}

async fn read_head(socket: &mut UnixStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

async fn stream(socket: &mut UnixStream, pieces: &[&str]) {
    send(socket, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    for piece in pieces {
        send(socket, &format!("{:x}\r\n{piece}\r\n", piece.len())).await;
    }
}

async fn wait_until_left(socket: &mut UnixStream, left: &Mutex<u32>) {
    let gone = tokio::time::timeout(Duration::from_mins(1), socket.read_u8()).await;
    assert!(gone.is_ok(), "the client stays");
    *left.lock().unwrap() += 1;
}

async fn send(socket: &mut UnixStream, text: &str) {
    // The client may be gone already: then its own test says so.
    let _ = socket.write_all(text.as_bytes()).await;
}
