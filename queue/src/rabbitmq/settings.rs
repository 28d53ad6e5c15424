//! What an operator can say about the broker.

use crate::QueueError;
use lapin::uri::AMQPUri;
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;

/// Heartbeat, unless the URL says otherwise: a dead peer is noticed within twice this.
const HEARTBEAT_SECONDS: u16 = 20;

/// How to reach the broker and what to call things there.
#[derive(Debug, Clone)]
pub struct RabbitMqSettings {
    /// `amqp://user:password@host:port/vhost`, or `amqps://`; `?heartbeat=` in seconds may follow.
    pub url: SecretString,
    /// How the connections are named in RabbitMQ's own tools; `-publish` or `-consume` is appended.
    pub connection_name: String,
    /// The longest that a wake-up, or a question to the broker, may take; connecting included.
    pub publish_timeout: Duration,
    /// The longest that reaching the broker may take, sign-in included.
    pub connect_timeout: Duration,
    /// What names of queues and exchanges begin with.
    pub prefix: String,
    /// Wake-ups that one queue holds; one more is refused. Part of the queue's arguments: changing it
    /// needs the queues to be deleted first.
    pub queue_len_max: u32,
}

impl RabbitMqSettings {
    /// The defaults for a broker.
    pub fn new(url: impl Into<SecretString>) -> Self {
        Self {
            url: url.into(),
            connection_name: "mothball".to_owned(),
            publish_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            prefix: "mothball".to_owned(),
            queue_len_max: 100_000,
        }
    }

    /// Whether the URL can be read at all: for a check of the configuration at start-up.
    pub fn check(&self) -> Result<(), QueueError> {
        self.uri().map(|_| ())
    }

    /// The URL, taken apart. The parser's own words may repeat the URL, so they are dropped.
    pub(super) fn uri(&self) -> Result<AMQPUri, QueueError> {
        let mut uri: AMQPUri = self.url.expose_secret().parse().map_err(|_: String| QueueError::BadUrl)?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        Ok(uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_the_settings_nor_the_error_show_the_password() {
        for url in [
            "amqp://u:s3cret@host:5672/%2f",
            "amqp://u:s3cret@host:99999/",
            "u:s3cret@host",
            "s3cret:x",
            "http://u:s3cret@host",
        ] {
            let settings = RabbitMqSettings::new(url.to_owned());
            let shown = format!(
                "{settings:?} {:?} {:?}",
                settings.check(),
                settings.check().map_err(|e| e.to_string())
            );
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }

    #[test]
    fn urls_are_read() {
        let uri = RabbitMqSettings::new("amqp://u:p%40ss@broker/v?heartbeat=7".to_owned()).uri().unwrap();
        assert_eq!((uri.authority.userinfo.password.as_str(), uri.vhost.as_str()), ("p@ss", "v"));
        assert_eq!((uri.authority.port, uri.query.heartbeat), (5672, Some(7)));
        let uri = RabbitMqSettings::new("amqps://broker".to_owned()).uri().unwrap();
        assert_eq!((uri.authority.port, uri.query.heartbeat), (5671, Some(HEARTBEAT_SECONDS)));
        for bad in ["", "broker", "http://broker", "amqp://broker:x", "redis://broker/"] {
            assert_eq!(RabbitMqSettings::new(bad.to_owned()).check(), Err(QueueError::BadUrl), "{bad}");
        }
    }
}
