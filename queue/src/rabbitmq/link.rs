//! One connection to the broker, and the means to end it whatever state it is in.
//!
//! lapin runs a thread per connection. While the broker holds a connection back, or is frozen, that
//! thread writes nothing, not even a farewell, and would stay as long as the broker does. So the TCP
//! connection is made here, and a second handle on its socket is kept: shutting that down ends the
//! thread for certain.

use super::RabbitMqSettings;
use super::error::unavailable;
use crate::QueueError;
use async_compat::Compat;
use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties};
use std::net::{Shutdown, TcpStream as StdTcpStream};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the broker may take to say farewell.
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);

/// A socket that is shut down when this is dropped.
#[derive(Debug)]
struct Socket(StdTcpStream);

impl Drop for Socket {
    fn drop(&mut self) {
        // Fails only when the connection is gone already, which is what is wanted.
        self.0.shutdown(Shutdown::Both).ok();
    }
}

/// A connection. Dropping it ends it at once; [`Link::close`] ends it in order.
#[derive(Debug)]
pub(super) struct Link {
    connection: Connection,
    /// Declared after the connection, hence dropped after it.
    _socket: Socket,
}

impl Link {
    /// Connects and signs in, within the settings' limit. Cancel-safe: nothing stays behind.
    pub(super) async fn open(settings: &RabbitMqSettings, purpose: &str) -> Result<Self, QueueError> {
        let limit = settings.connect_timeout;
        let opened = timeout(limit, Self::open_unlimited(settings, purpose)).await;
        opened.unwrap_or_else(|_| Err(unavailable(format!("no connection within {limit:?}"))))
    }

    async fn open_unlimited(settings: &RabbitMqSettings, purpose: &str) -> Result<Self, QueueError> {
        let uri = settings.uri()?;
        let address = (uri.authority.host.as_str(), uri.authority.port);
        let tcp = TcpStream::connect(address).await.map_err(|e| unavailable(format!("connect: {e}")))?;
        tcp.set_nodelay(true).map_err(unavailable)?;
        let socket = Socket(tcp.as_fd().try_clone_to_owned().map_err(unavailable)?.into());
        let stream = secure(tcp, &uri).await.map_err(|e| unavailable(format!("TLS: {e}")))?;

        // lapin asks for the stream once, since its own reconnection stays off.
        let stream = Mutex::new(Some(stream));
        let hand_over = async move |_, _| {
            let taken = stream.lock().ok().and_then(|mut stream| stream.take());
            taken.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected).into())
        };
        let name = format!("{}-{purpose}", settings.connection_name);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let runtime = lapin::runtime::default_runtime()?;
        let connection = Connection::connector(uri, runtime, hand_over, properties).await?;
        Ok(Self { connection, _socket: socket })
    }

    pub(super) async fn channel(&self) -> Result<Channel, QueueError> {
        Ok(self.connection.create_channel().await?)
    }

    pub(super) fn connected(&self) -> bool {
        self.connection.status().connected()
    }

    /// Whether the broker has told us to stop publishing.
    pub(super) fn blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// What happens to the connection. There is one listener per connection: two would share the events.
    pub(super) fn events(&self) -> impl futures_util::Stream<Item = lapin::Event> + Send + 'static {
        self.connection.events_listener()
    }

    /// Says farewell, briefly, and ends the connection.
    pub(super) async fn close(self) {
        if self.connected() && !self.blocked() {
            timeout(FAREWELL_LIMIT, self.connection.close(200, "bye".into())).await.ok();
        }
    }
}

async fn secure(tcp: TcpStream, uri: &AMQPUri) -> std::io::Result<AsyncTcpStream<Compat<TcpStream>>> {
    let plain = AsyncTcpStream::Plain(Compat::new(tcp));
    match uri.scheme {
        AMQPScheme::AMQP => Ok(plain),
        AMQPScheme::AMQPS => plain.into_tls(&uri.authority.host, OwnedTLSConfig::default().as_ref()).await,
    }
}
