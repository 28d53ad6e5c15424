//! Docker save: an image as an archive, with exactly the layers that its ids name.

use super::wire::{Ask, Pieces, encode_repository};
use super::{DockerError, Engine};
use futures_util::stream;
use hyper::Method;
use std::io;
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

const WHAT: &str = "export image";

impl Engine {
    /// Opens an image's archive, by id or reference, as `docker save` writes it: its config and the uncompressed tar of each
    /// layer. Docker lays all of it out on its own disk before the first byte comes, so that disk needs room for the whole
    /// image once more, and the answer takes its time. Dropping the reader ends it.
    pub async fn export_image(
        &self,
        image: &str,
    ) -> Result<impl AsyncRead + Send + Unpin + use<>, DockerError> {
        let ask = Ask {
            what: WHAT,
            method: Method::GET,
            path: format!("/images/{}/get", encode_repository(image)),
            auth: None,
            head: self.limits.commit,
            idle: Some(self.limits.stream_idle),
        };
        let pieces = self.pieces(ask).await?;
        let bytes = stream::unfold(Some(pieces), |pieces| async {
            let mut pieces: Pieces = pieces?;
            match pieces.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(pieces))),
                Ok(None) => None,
                Err(error) => Some((Err(io::Error::other(error)), None)),
            }
        });
        Ok(StreamReader::new(Box::pin(bytes)))
    }
}
