//! The head of an HTTP/1.1 message: everything up to the empty line.

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::rule::Request;

const LIMIT: usize = 64 * 1024;
const END: &[u8] = b"\r\n\r\n";

/// A head, and the first bytes of the body that came with it.
#[derive(Debug)]
pub(super) struct Head {
    text: String,
    pub(super) rest: Vec<u8>,
}

impl Head {
    /// Reads a head; `None` when the peer closed the connection without a byte.
    pub(super) async fn read(from: &mut (impl AsyncRead + Unpin), before: Vec<u8>) -> Result<Option<Self>> {
        let mut bytes = before;
        loop {
            if let Some(end) = bytes.windows(END.len()).position(|window| window == END) {
                let rest = bytes.split_off(end + END.len());
                let text = String::from_utf8_lossy(&bytes).into_owned();
                return Ok(Some(Self { text, rest }));
            }
            // Docker tries TLS first with every registry, and would wait ten seconds for a handshake that never comes.
            if bytes.first().is_some_and(|byte| !byte.is_ascii_alphabetic()) {
                bail!("this is not HTTP");
            }
            if bytes.len() > LIMIT {
                bail!("the head of a message is too long");
            }
            if from.read_buf(&mut bytes).await.context("read a head")? == 0 {
                if bytes.is_empty() {
                    return Ok(None);
                }
                bail!("the connection ended inside a head");
            }
        }
    }

    /// The request that this head begins.
    pub(super) fn request(&self) -> Request {
        let mut words = self.text.split(' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        Request { method: word(), path: word() }
    }

    /// Whether this is an interim answer, such as 100, after which the real one comes.
    pub(super) fn is_interim(&self) -> bool {
        self.text.split(' ').nth(1).is_some_and(|status| status.starts_with("10") && status != "101")
    }

    /// The head to pass on: unless the connection is to be upgraded, the receiver is told that no second message follows.
    pub(super) fn closing(&self) -> String {
        let mut lines = Vec::new();
        for line in self.text.trim_end().split("\r\n") {
            let lower = line.to_ascii_lowercase();
            if lower.starts_with("connection:") {
                if lower.contains("upgrade") {
                    return self.text.clone();
                }
                continue;
            }
            lines.push(line);
        }
        lines.push("Connection: close\r\n\r\n");
        lines.join("\r\n")
    }

    /// The head as it came.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }
}
