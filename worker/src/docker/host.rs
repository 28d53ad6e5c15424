//! Where Docker Engine listens.

use super::DockerError;
use std::fmt;

/// The address of Docker Engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DockerHost {
    /// A socket on this machine.
    Unix(String),
    /// `host:port`, without TLS.
    Tcp(String),
}

impl DockerHost {
    pub(super) fn parse(text: &str) -> Result<Self, DockerError> {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("unix://") {
            return Self::unix(path, text);
        }
        if text.starts_with('/') {
            return Self::unix(text, text);
        }
        let address = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("http://"));
        match address.map(|a| a.trim_end_matches('/')) {
            Some(a) if a.rsplit_once(':').is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok()) => {
                Ok(Self::Tcp(a.to_owned()))
            }
            _ => Err(DockerError::Host(text.to_owned())),
        }
    }

    fn unix(path: &str, text: &str) -> Result<Self, DockerError> {
        if path.starts_with('/') {
            Ok(Self::Unix(path.to_owned()))
        } else {
            Err(DockerError::Host(text.to_owned()))
        }
    }
}

impl fmt::Display for DockerHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{path}"),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_forms_are_understood() {
        let unix = DockerHost::Unix("/run/d.sock".into());
        assert_eq!(DockerHost::parse("unix:///run/d.sock").unwrap(), unix);
        assert_eq!(DockerHost::parse(" /run/d.sock\n").unwrap(), unix);
        assert_eq!(
            DockerHost::parse("tcp://10.0.0.1:2375/").unwrap(),
            DockerHost::Tcp("10.0.0.1:2375".into())
        );
        for bad in ["", "unix://relative", "ssh://node", "tcp://node", "tcp://:1", "https://node:2376"] {
            assert!(DockerHost::parse(bad).is_err(), "{bad}");
        }
    }
}
