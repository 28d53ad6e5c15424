//! What can go wrong with Docker Engine, and what class of failure it is.

use super::host::DockerHost;
use bollard::errors::Error as Bollard;
use mothball_domain::failure::{Failure, FailureClass};
use std::time::Duration;

/// What went wrong with Docker Engine. No variant holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// The configured address is none.
    #[error("Docker's address {0:?} is not understood: write unix:///PATH or tcp://HOST:PORT")]
    Host(String),
    /// Nothing answers at the address: Docker is down, or the worker may not use its socket.
    #[error("{what}: Docker Engine does not answer at {host}: {reason}")]
    Unreachable {
        /// What was wanted.
        what: &'static str,
        /// Where.
        host: String,
        /// The operating system's words.
        reason: String,
    },
    /// The connection broke in the middle: Docker stopped or was restarted.
    #[error("{what}: the connection to Docker Engine broke: {reason}")]
    Broken {
        /// What was wanted.
        what: &'static str,
        /// What was seen.
        reason: String,
    },
    /// No answer within the limit. Docker may finish what it was asked nevertheless.
    #[error("{what}: no answer within {} s", limit.as_secs())]
    Timeout {
        /// What was wanted.
        what: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// Docker Engine answered with an error.
    #[error("{what}: {message}")]
    Refused {
        /// What was wanted.
        what: &'static str,
        /// The HTTP status.
        status: u16,
        /// Docker's words.
        message: String,
    },
    /// A push or pull failed between Docker Engine and the registry; the HTTP status may well have been 200.
    #[error("{what}: {message}")]
    Transfer {
        /// What was wanted.
        what: &'static str,
        /// Docker's or the registry's words.
        message: String,
    },
    /// A push or pull ended without a result and without an error: Docker stopped in the middle.
    #[error("{what}: Docker Engine ended the transfer without a result")]
    Cut {
        /// What was wanted.
        what: &'static str,
    },
    /// It was cancelled by its caller.
    #[error("{what}: cancelled")]
    Cancelled {
        /// What was wanted.
        what: &'static str,
    },
    /// Another container has the name.
    #[error("create container: the name {name} belongs to another container, {holder}")]
    NameTaken {
        /// The name.
        name: String,
        /// The Docker id of its holder.
        holder: String,
    },
    /// What must only be done to a frozen container was asked for one that is not.
    #[error("{what}: the container is not frozen")]
    NotFrozen {
        /// What was wanted.
        what: &'static str,
    },
    /// The container's processes cannot be reached from here.
    #[error("end processes: {0}")]
    Processes(String),
    /// Docker's answer was not understood.
    #[error("{what}: answer not understood: {reason}")]
    Answer {
        /// What was wanted.
        what: &'static str,
        /// Why not.
        reason: String,
    },
}

impl DockerError {
    /// Whether what it was about does not exist (any more).
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether Docker itself was not there, so that nothing can be said about the container.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Broken { .. })
    }

    pub(super) fn from_bollard(host: &DockerHost, what: &'static str, error: Bollard) -> Self {
        match error {
            Bollard::DockerResponseServerError { status_code, message } => {
                Self::Refused { what, status: status_code, message }
            }
            Bollard::DockerStreamError { error } => Self::Transfer { what, message: error },
            Bollard::RequestTimeoutError => Self::Timeout { what, limit: Duration::ZERO },
            Bollard::SocketNotFoundError(path) => {
                Self::Unreachable { what, host: host.to_string(), reason: format!("{path} does not exist") }
            }
            Bollard::JsonDataError { .. } | Bollard::JsonSerdeError { .. } => {
                Self::Answer { what, reason: chain(&error) }
            }
            Bollard::HyperLegacyError { ref err } if err.is_connect() => {
                Self::Unreachable { what, host: host.to_string(), reason: chain(err) }
            }
            other => Self::Broken { what, reason: chain(&other) },
        }
    }

    /// What its owner is told, and whether another attempt may help.
    pub fn failure(&self) -> Failure {
        use FailureClass::{Engine, Internal, Timeout};
        let text = self.to_string();
        match self {
            Self::Host(_) => Failure::permanent(Engine, text)
                .with_hint("Ask the operator to correct worker.docker_host on the node."),
            Self::Unreachable { host, reason, .. } => Failure::transient(
                Engine,
                format!("Docker Engine on this node does not answer ({host}: {reason})"),
            ),
            Self::Broken { .. } | Self::Cut { .. } | Self::Answer { .. } | Self::NotFrozen { .. } => {
                Failure::transient(Engine, text)
            }
            Self::Timeout { .. } => Failure::transient(Timeout, text),
            Self::Refused { status, message, .. } => refused(*status, message, text),
            Self::Transfer { message, .. } => transfer(message, text),
            Self::Cancelled { .. } => Failure::transient(Internal, text),
            Self::NameTaken { .. } => Failure::permanent(Engine, text)
                .with_hint("Ask the operator to rename or remove the container that has the name on the node."),
            Self::Processes(_) => Failure::permanent(Engine, text).with_hint(
                "Ask the operator to run the worker as root in the process namespace of the node (pid: host).",
            ),
        }
    }
}

/// An error with its causes: the outermost of hyper's says only "client error".
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = inner.source();
    }
    text
}

fn has(text: &str, any: &[&str]) -> bool {
    any.iter().any(|word| text.contains(word))
}

/// What Docker Engine itself refused.
fn refused(status: u16, message: &str, text: String) -> Failure {
    use FailureClass::{Engine, Gone, NodeDisk, TooLarge};
    let m = message.to_lowercase();
    if has(&m, &["no space left on device"]) {
        return Failure::transient(NodeDisk, text);
    }
    if has(&m, &["could not select device driver", "nvidia-container-cli", "failed to inject cdi devices"]) {
        return Failure::permanent(
            Engine,
            format!("{text} (Docker on this node cannot give GPUs to containers)"),
        )
        .with_hint(
            "Ask the operator to install the NVIDIA driver and the NVIDIA Container Toolkit on the node and to restart Docker; then retry the job.",
        );
    }
    if has(&m, &["max depth exceeded"]) {
        return Failure::permanent(TooLarge, format!("{text} (the image has too many layers)"))
            .with_hint("Save it with worker.snapshot = direct, which keeps the number of layers down.");
    }
    match status {
        404 => Failure::permanent(Gone, text),
        400 | 405 | 501 => Failure::permanent(Engine, text),
        _ => Failure::transient(Engine, text),
    }
}

/// What failed between Docker Engine and the registry. The only thing to go by is the text.
fn transfer(message: &str, text: String) -> Failure {
    use FailureClass::{Auth, Gone, Network, NodeDisk, Quota, Registry, TooLarge};
    let m = message.to_lowercase();
    // Before "denied", because Harbor answers `denied: Quota exceeded`.
    if has(&m, &["quota"]) {
        return Failure::permanent(Quota, text);
    }
    if has(&m, &["entity too large", " 413"]) {
        return Failure::permanent(TooLarge, text);
    }
    if has(&m, &["toomanyrequests", "too many requests", " 429"]) {
        return Failure::transient(Registry, text);
    }
    let refused_words = [
        "unauthorized",
        "no basic auth",
        "authentication required",
        "incorrect username or password",
        "denied:",
        "access denied",
        "access to the resource is denied",
        " 401",
        " 403",
    ];
    if has(&m, &refused_words) {
        return Failure::permanent(Auth, text);
    }
    if has(&m, &["no space left on device"]) {
        // A registry without room is met by the uploads; everything else that fills up is ours.
        let remote = has(&m, &["http status", "blob upload", "unknown:"]);
        return Failure::transient(if remote { Registry } else { NodeDisk }, text);
    }
    let missing = [
        "manifest unknown",
        "manifest for",
        "no such image",
        "tag does not exist",
        "does not exist locally",
        "name unknown",
    ];
    if has(&m, &missing) {
        return Failure::permanent(Gone, text);
    }
    if has(&m, &["server gave http response to https client"]) {
        return Failure::permanent(Registry, text)
            .with_hint("Ask the operator to list the registry in \"insecure-registries\" of the node's /etc/docker/daemon.json.");
    }
    if has(&m, &["x509:", "certificate"]) {
        return Failure::permanent(Registry, text).with_hint(
            "Ask the operator to place the registry's CA in /etc/docker/certs.d/HOST:PORT/ca.crt of the node.",
        );
    }
    let broken = [
        "connection refused",
        "connection reset",
        "broken pipe",
        "no such host",
        "network is unreachable",
        "no route to host",
        "timeout",
        "timed out",
        "deadline exceeded",
        "eof",
        "use of closed network connection",
    ];
    if has(&m, &broken) {
        return Failure::transient(Network, text);
    }
    if has(&m, &["invalid reference format", "must be lowercase", "max depth exceeded"]) {
        return Failure::permanent(FailureClass::Engine, text);
    }
    Failure::transient(Registry, text)
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
