//! Server-sent events, read line by line.

use crate::exit::{Code, Fail};
use reqwest::Response;

/// Longest event that is read.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Event {
    /// Its kind; empty when the server names none.
    pub(crate) name: String,
    /// What it carries.
    pub(crate) data: String,
}

/// A stream of events.
#[derive(Debug)]
pub(crate) struct Events {
    answer: Response,
    parser: Parser,
}

impl Events {
    pub(super) fn new(answer: Response) -> Self {
        Self { answer, parser: Parser::default() }
    }

    /// The next event; nothing when the server ended the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, Fail> {
        loop {
            if let Some(event) = self.parser.take()? {
                return Ok(Some(event));
            }
            match self.answer.chunk().await {
                Ok(Some(bytes)) => self.parser.feed(&bytes),
                Ok(None) => return Ok(None),
                Err(e) => {
                    return Err(Fail::new(Code::Unreachable, format!("the stream of events broke: {e}")));
                }
            }
        }
    }
}

/// Bytes that arrived and are not yet events.
#[derive(Debug, Default)]
struct Parser {
    bytes: Vec<u8>,
    event: Event,
}

impl Parser {
    fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole event among what arrived.
    fn take(&mut self) -> Result<Option<Event>, Fail> {
        while let Some(end) = self.bytes.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if !event.data.is_empty() {
                    return Ok(Some(event));
                }
            } else {
                self.line(line);
            }
        }
        if self.bytes.len() + self.event.data.len() > EVENT_BYTES_MAX {
            return Err(Fail::failed("the server sent an event that is too long"));
        }
        Ok(None)
    }

    fn line(&mut self, line: &str) {
        // A line that begins with ':' is a sign of life.
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let stream =
            ": hello\n\nevent: job\ndata: {\"a\":\ndata: 1}\n\ndata:x\r\n\r\n:\n\nevent: cut\ndata: no";
        for size in [1, 2, 7, 1000] {
            let mut parser = Parser::default();
            let mut seen = Vec::new();
            for piece in stream.as_bytes().chunks(size) {
                parser.feed(piece);
                while let Some(event) = parser.take().unwrap() {
                    seen.push((event.name, event.data));
                }
            }
            assert_eq!(seen, [("job".into(), "{\"a\":\n1}".into()), (String::new(), "x".into())], "{size}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut parser = Parser::default();
        parser.feed(&vec![b'a'; EVENT_BYTES_MAX + 1]);
        assert!(parser.take().is_err());
    }
}
