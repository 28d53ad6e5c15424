//! How far a push or pull is, from Docker's lines about its layers.

use super::{DockerError, RegistryAuth, auth};
use serde::Deserialize;
use std::collections::HashMap;

/// How far a push is. Bytes are of uncompressed layers, because Docker reports those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PushProgress {
    /// Bytes sent, or found to be in the registry already.
    pub bytes_done: u64,
    /// Bytes of the image.
    pub bytes_total: u64,
    /// Layers that the registry has.
    pub layers_done: u32,
    /// Layers of the image.
    pub layers_total: u32,
    /// Bytes of layers that the registry had; 0 until each layer is known to be sent or not.
    pub bytes_reused: u64,
}

/// How far a pull is. Bytes are of compressed layers; those that the node had are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PullProgress {
    /// Bytes fetched.
    pub bytes_done: u64,
    /// Bytes to fetch, as far as known.
    pub bytes_total: u64,
    /// Layers in place.
    pub layers_done: u32,
    /// Layers of the image.
    pub layers_total: u32,
}

/// One line of a push or pull.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line {
    id: Option<String>,
    status: Option<String>,
    progress_detail: Option<Detail>,
    error: Option<String>,
    error_detail: Option<ErrorDetail>,
    aux: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
struct Detail {
    #[serde(default)]
    current: Option<i64>,
    #[serde(default)]
    total: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct ErrorDetail {
    message: Option<String>,
}

impl Line {
    /// The error in this line of a stream whose HTTP status was 200.
    pub(super) fn into_result(
        self,
        what: &'static str,
        auth: Option<&RegistryAuth>,
    ) -> Result<Self, DockerError> {
        match self.error_detail.as_ref().and_then(|d| d.message.as_ref()).or(self.error.as_ref()) {
            Some(message) => Err(DockerError::Transfer { what, message: auth::blot(message, auth) }),
            None => Ok(self),
        }
    }

    /// The result of a push, which its last line carries.
    pub(super) fn pushed(&self) -> Option<(String, u64)> {
        let aux = self.aux.as_ref()?;
        let digest = aux.get("Digest")?.as_str()?;
        Some((digest.to_owned(), aux.get("Size").and_then(serde_json::Value::as_u64).unwrap_or(0)))
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Layer {
    current: u64,
    total: u64,
    /// Sent or fetched altogether, or there before.
    done: bool,
    /// There before.
    reused: bool,
    /// Whether its fate is known.
    known: bool,
}

/// The layers of one push or pull.
#[derive(Debug, Default)]
pub(super) struct Layers {
    layers: HashMap<String, Layer>,
    /// Bytes of the image, for a push.
    size: u64,
}

impl Layers {
    pub(super) fn of_image(size: u64) -> Self {
        Self { layers: HashMap::new(), size }
    }

    /// Takes in a line; whether anything changed.
    pub(super) fn take(&mut self, line: &Line) -> bool {
        let (Some(id), Some(status)) = (&line.id, &line.status) else { return false };
        // "Pulling from …" carries the tag in place of a layer's id, and so does the digest's line of a push.
        if status.starts_with("Pulling from") || status.contains("digest:") {
            return false;
        }
        let layer = self.layers.entry(id.clone()).or_default();
        let detail = line.progress_detail.as_ref();
        let current = detail.and_then(|d| d.current).and_then(|n| u64::try_from(n).ok());
        let total = detail.and_then(|d| d.total).and_then(|n| u64::try_from(n).ok());
        match status.as_str() {
            "Pushing" | "Downloading" => {
                layer.known = true;
                layer.total = total.unwrap_or(layer.total);
                layer.current = current.unwrap_or(layer.current);
                // Docker's count goes a little beyond the total at the end, and the total can be unknown.
                layer.total = layer.total.max(layer.current);
            }
            "Download complete" => layer.current = layer.total,
            "Pushed" | "Pull complete" => {
                (layer.known, layer.done) = (true, true);
                layer.current = layer.total;
            }
            "Layer already exists" | "Already exists" => {
                (layer.known, layer.done, layer.reused) = (true, true, true);
                (layer.current, layer.total) = (0, 0);
            }
            s if s.starts_with("Mounted from") => {
                (layer.known, layer.done, layer.reused) = (true, true, true);
                (layer.current, layer.total) = (0, 0);
            }
            _ => {}
        }
        true
    }

    pub(super) fn push(&self) -> PushProgress {
        let sum = |part: fn(&Layer) -> u64| self.layers.values().map(part).sum::<u64>();
        let (sent, sending) = (sum(|l| l.current), sum(|l| l.total));
        let all_known = !self.layers.is_empty() && self.layers.values().all(|l| l.known);
        let any_reused = self.layers.values().any(|l| l.reused);
        // Docker does not tell the size of a layer that it skips: what is skipped is what is left of the image.
        let bytes_reused = if all_known && any_reused { self.size.saturating_sub(sending) } else { 0 };
        let bytes_total = self.size.max(sending);
        PushProgress {
            bytes_done: (sent + bytes_reused).min(bytes_total),
            bytes_total,
            layers_done: self.count_done(),
            layers_total: self.layers.len() as u32,
            bytes_reused,
        }
    }

    pub(super) fn pull(&self) -> PullProgress {
        PullProgress {
            bytes_done: self.layers.values().map(|l| l.current).sum(),
            bytes_total: self.layers.values().map(|l| l.total).sum(),
            layers_done: self.count_done(),
            layers_total: self.layers.len() as u32,
        }
    }

    fn count_done(&self) -> u32 {
        self.layers.values().filter(|l| l.done).count() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(layers: &mut Layers, lines: &[&str]) {
        for line in lines {
            layers.take(&serde_json::from_str(line).unwrap());
        }
    }

    #[test]
    fn a_push_counts_what_is_sent_and_finds_out_what_was_there() {
        let mut layers = Layers::of_image(1000);
        feed(
            &mut layers,
            &[
                r#"{"status":"The push refers to repository [r/x]"}"#,
                r#"{"status":"Preparing","progressDetail":{},"id":"a"}"#,
                r#"{"status":"Preparing","progressDetail":{},"id":"b"}"#,
                r#"{"status":"Pushing","progressDetail":{"current":100,"total":300},"progress":"…","id":"a"}"#,
            ],
        );
        let half =
            PushProgress { bytes_done: 100, bytes_total: 1000, layers_total: 2, ..PushProgress::default() };
        assert_eq!(layers.push(), half);
        feed(
            &mut layers,
            &[
                r#"{"status":"Layer already exists","progressDetail":{},"id":"b"}"#,
                r#"{"status":"Pushing","progressDetail":{"current":310,"total":300},"id":"a"}"#,
                r#"{"status":"Pushed","progressDetail":{},"id":"a"}"#,
                r#"{"status":"v1: digest: sha256:00 size: 5"}"#,
            ],
        );
        let whole = PushProgress {
            bytes_done: 1000,
            bytes_total: 1000,
            layers_done: 2,
            layers_total: 2,
            bytes_reused: 690,
        };
        assert_eq!(layers.push(), whole);
    }

    #[test]
    fn a_pull_does_not_take_the_tag_for_a_layer() {
        let mut layers = Layers::default();
        feed(
            &mut layers,
            &[
                r#"{"status":"Pulling from x","id":"v1"}"#,
                r#"{"status":"Pulling fs layer","progressDetail":{},"id":"a"}"#,
                r#"{"status":"Already exists","progressDetail":{},"id":"b"}"#,
                r#"{"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"a"}"#,
                r#"{"status":"Extracting","progressDetail":{"current":1,"total":10},"id":"a"}"#,
            ],
        );
        let half = PullProgress { bytes_done: 5, bytes_total: 10, layers_done: 1, layers_total: 2 };
        assert_eq!(layers.pull(), half);
    }

    #[test]
    fn an_error_inside_the_stream_is_an_error_and_shows_no_password() {
        let auth = RegistryAuth { username: "u".into(), password: "hunter22".into(), server: "r".into() };
        let line: Line =
            serde_json::from_str(r#"{"errorDetail":{"message":"bad hunter22"},"error":"bad"}"#).unwrap();
        let error = line.into_result("push image", Some(&auth)).unwrap_err();
        assert_eq!(error.to_string(), "push image: bad ***");
    }

    #[test]
    fn the_last_line_of_a_push_has_the_digest() {
        let line: Line = serde_json::from_str(
            r#"{"progressDetail":{},"aux":{"Tag":"v1","Digest":"sha256:ab","Size":528}}"#,
        )
        .unwrap();
        assert_eq!(line.pushed(), Some(("sha256:ab".to_owned(), 528)));
    }
}
