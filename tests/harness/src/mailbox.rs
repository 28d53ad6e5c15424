//! A private mail server: takes every message and puts it into a directory.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::TcpStream;

use crate::claim::Claim;
use crate::place::Place;
use crate::process::Process;

const START_LIMIT: Duration = Duration::from_mins(1);

/// A running mail server without TLS.
#[derive(Debug)]
pub struct Mailbox {
    _process: Process,
    place: Place,
    port: Claim,
}

/// A message as a reader sees it.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Whom it is for.
    pub to: String,
    /// Its subject, decoded.
    pub subject: String,
    /// Its text, decoded.
    pub body: String,
    /// All of its headers, decoded.
    pub headers: Vec<(String, String)>,
}

impl Mailbox {
    /// Starts a mail server on a port of its own.
    pub async fn start() -> Result<Self> {
        let (place, port) = (Place::new("mail")?, Claim::port()?);
        // Debian's own Python has the package; another one that comes first on the path has not.
        let mut server = Process::command(&place, Path::new("/usr/bin/python3"));
        server
            .args(["-m", "aiosmtpd", "-n", "-l", &format!("127.0.0.1:{}", port.number())])
            .args(["-c", "aiosmtpd.handlers.Mailbox"])
            .arg(place.path("mail"));
        let mut process = Process::spawn(&place, "mail", &mut server)?;
        let number = port.number();
        let ready =
            process.wait_ready(START_LIMIT, async || TcpStream::connect(("127.0.0.1", number)).await.ok());
        ready.await.context("is python3-aiosmtpd installed?")?;
        Ok(Self { _process: process, place, port })
    }

    /// Its port, on the loopback.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// What came so far, in no order.
    pub fn came(&self) -> Result<Vec<Mail>> {
        let dir = self.place.path("mail/new");
        let Ok(entries) = std::fs::read_dir(&dir) else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for entry in entries {
            let bytes = std::fs::read(entry.context("list mail")?.path()).context("read a message")?;
            all.push(read(&bytes)?);
        }
        Ok(all)
    }
}

fn read(bytes: &[u8]) -> Result<Mail> {
    let parsed = mailparse::parse_mail(bytes).context("parse a message")?;
    let headers: Vec<(String, String)> =
        parsed.headers.iter().map(|header| (header.get_key(), header.get_value())).collect();
    let header = |name: &str| {
        let found = headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let body = parsed.get_body().context("decode a message")?;
    Ok(Mail { to: header("to"), subject: header("subject"), body, headers })
}
