//! How fast the registry takes a blob: one stream, and one for each processor.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use mothball_harness::http::client;
use mothball_harness::registry::Registry;
use reqwest::header::{CONTENT_TYPE, LOCATION};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use super::{Limit, What, processors, rate};

const BYTES: usize = 512 << 20;
/// Each blob is in memory.
const STREAMS_MAX: usize = 4;

/// One stream, and several at once.
pub(super) async fn limits(registry: &Registry) -> Result<Vec<Limit>> {
    let all = processors().min(STREAMS_MAX);
    let mut limits = Vec::new();
    for streams in [1, all] {
        let mut uploads = JoinSet::new();
        // The first byte tells blobs apart: one that the registry has would not be taken again.
        let blobs: Vec<Vec<u8>> = (0..streams).map(|n| vec![(streams * 16 + n) as u8; BYTES]).collect();
        let digests: Vec<String> = blobs.iter().map(|blob| digest(blob)).collect();
        let begun = Instant::now();
        for (blob, digest) in blobs.into_iter().zip(digests) {
            uploads.spawn(upload(registry.url(), blob, digest));
        }
        while let Some(done) = uploads.join_next().await {
            done.context("join an upload")??;
        }
        limits.push(Limit::new(What::Ingest, streams, rate(streams * BYTES, begun)));
    }
    Ok(limits)
}

async fn upload(registry: String, blob: Vec<u8>, digest: String) -> Result<()> {
    let client = client();
    let begun = client.post(format!("{registry}/v2/bench/limits/blobs/uploads/")).send().await?;
    let location = begun.headers().get(LOCATION).context("find the upload")?.to_str()?.to_owned();
    let sent =
        client.patch(location).header(CONTENT_TYPE, "application/octet-stream").body(blob).send().await?;
    let location = sent.headers().get(LOCATION).context("find the upload")?.to_str()?.to_owned();
    let put = client.put(format!("{location}&digest={digest}")).send().await.context("end the upload")?;
    ensure!(put.status().as_u16() == 201, "the registry answered {}", put.status());
    Ok(())
}

fn digest(blob: &[u8]) -> String {
    let mut digest = "sha256:".to_owned();
    for byte in Sha256::digest(blob) {
        let _infallible = write!(digest, "{byte:02x}");
    }
    digest
}
