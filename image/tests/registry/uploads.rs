//! Uploads in chunks: begun, found again, mounted, ended, given up; and what registries do when the line
//! is cut inside a chunk.

use crate::scripted::{Reply, Scripted, Seen};
use crate::support::{anonymous, class, noise, read, refused};
use anyhow::{Context as _, Result};
use bytes::Bytes;
use mothball_domain::failure::FailureClass;
use mothball_harness::registry::Registry as Server;
use mothball_image::Mount;
use mothball_image::oci::digest_of;
use std::sync::{Arc, Mutex, PoisonError};

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_goes_up_in_chunks_and_comes_back() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let blob = noise(1, 5_000_001);
    let mut upload = registry.start_upload("p1/base").await?;
    let pieces: Vec<Bytes> = blob.chunks(700_000).map(Bytes::copy_from_slice).collect();
    for chunk in pieces.chunks(3) {
        registry.patch(&mut upload, chunk).await?;
    }
    registry.patch(&mut upload, &[]).await?;
    assert_eq!(upload.offset(), 5_000_001);
    assert_eq!(registry.upload_status(&mut upload).await?, 5_000_001);
    registry.finish(upload, &digest_of(&blob)).await?;
    assert_eq!(read(&registry, "p1/base", &digest_of(&blob)).await?, blob);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn single_bytes_and_nothing_at_all_can_be_uploaded() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let mut upload = registry.start_upload("p1/base").await?;
    for byte in [b"a", b"b", b"c"] {
        registry.patch(&mut upload, &[Bytes::from_static(byte)]).await?;
    }
    registry.finish(upload, &digest_of(b"abc")).await?;
    assert_eq!(read(&registry, "p1/base", &digest_of(b"abc")).await?, b"abc");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_found_again_by_its_location() -> Result<()> {
    let mut server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let blob = noise(1, 300_000);
    let mut upload = registry.start_upload("p1/base").await?;
    registry.patch(&mut upload, &[blob.slice(..100_000)]).await?;
    let location = upload.location().to_owned();
    drop(upload);
    server.kill9();
    server.start_again().await?;

    let another = anonymous(&server.url())?;
    let mut upload = another.resume_upload("p1/base", &location).await?.context("it is lost")?;
    assert_eq!(upload.offset(), 100_000);
    another.patch(&mut upload, &[blob.slice(100_000..)]).await?;
    another.finish(upload, &digest_of(&blob)).await?;
    assert_eq!(another.blob_size("p1/base", &digest_of(&blob)).await?, Some(300_000));
    assert!(another.resume_upload("p1/base", &location).await?.is_none(), "an ended upload is no upload");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_upload_is_gone_and_cancelling_it_again_is_fine() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let mut upload = registry.start_upload("p1/base").await?;
    registry.patch(&mut upload, &[noise(1, 1000)]).await?;
    registry.cancel_upload(upload.clone()).await?;
    registry.cancel_upload(upload.clone()).await?;
    assert!(registry.resume_upload("p1/base", upload.location()).await?.is_none());
    let error = refused(registry.patch(&mut upload, &[noise(1, 1000)]).await)?;
    assert!(error.is_upload_lost(), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_the_digests_are_not_taken() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let mut upload = registry.start_upload("p1/base").await?;
    registry.patch(&mut upload, &[noise(1, 1000)]).await?;
    let error = refused(registry.finish(upload, &digest_of(b"other")).await)?;
    assert!(error.is_upload_lost(), "{error:?}");
    assert_eq!(class(&error), (FailureClass::Registry, false));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_mounted_from_another_repository() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let blob = noise(1, 1000);
    let digest = digest_of(&blob);
    registry.put_blob("base/cuda", &digest, blob.clone()).await?;
    assert!(matches!(registry.mount_blob("p1/cuda", &digest, "base/cuda").await?, Mount::Mounted));
    assert_eq!(registry.blob_size("p1/cuda", &digest).await?, Some(1000));

    let absent = noise(2, 500);
    let mount = registry.mount_blob("p1/cuda", &digest_of(&absent), "base/cuda").await?;
    let Mount::Upload(mut upload) = mount else { anyhow::bail!("mounted what is not there") };
    registry.patch(&mut upload, std::slice::from_ref(&absent)).await?;
    registry.finish(upload, &digest_of(&absent)).await?;
    assert_eq!(read(&registry, "p1/cuda", &digest_of(&absent)).await?, absent);
    Ok(())
}

/// What a registry that keeps what came (distribution 3, zot, …) holds of an upload.
#[derive(Default)]
struct Keeps {
    held: Vec<u8>,
    done: bool,
}

/// A registry that keeps what came and loses the line in the middle of each chunk of `cuts`.
async fn keeping(cuts: Vec<usize>) -> Result<(Scripted, Arc<Mutex<Keeps>>)> {
    let state = Arc::new(Mutex::new(Keeps::default()));
    let (shared, patches) = (state.clone(), Mutex::new(0));
    let server = Scripted::start(move |seen: &Seen, _| {
        let mut keeps = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let location = format!("/v2/p1/base/blobs/uploads/u1?at={}", keeps.held.len());
        let range = format!("0-{}", keeps.held.len().saturating_sub(1));
        match seen.method.as_str() {
            "POST" => Reply::status(202).header("Location", location),
            "GET" => Reply::status(204).header("Location", location).header("Range", range),
            "HEAD" if keeps.done => Reply::status(200).header("Content-Length", keeps.held.len().to_string()),
            "HEAD" => Reply::status(404),
            "PATCH" => {
                let from = format!("{}-", keeps.held.len());
                if !seen.header("content-range").starts_with(&from) {
                    return Reply::status(416).header("Location", location).header("Range", range);
                }
                let mut patches = patches.lock().unwrap_or_else(PoisonError::into_inner);
                let cut = cuts.contains(&*patches);
                *patches += 1;
                let taken = if cut { seen.body.len() / 2 } else { seen.body.len() };
                keeps.held.extend_from_slice(&seen.body[..taken]);
                if cut { Reply::hang_up() } else { Reply::status(202) }
            }
            _ => {
                // The blob is taken, and the answer is lost.
                keeps.done = true;
                Reply::hang_up()
            }
        }
    })
    .await?;
    Ok((server, state))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_chunk_goes_on_where_the_registry_is() -> Result<()> {
    let (server, state) = keeping(vec![0, 1, 3]).await?;
    let registry = anonymous(server.url())?;
    let blob = noise(1, 100_000);
    let mut upload = registry.start_upload("p1/base").await?;
    let pieces: Vec<Bytes> = blob.chunks(9_000).map(Bytes::copy_from_slice).collect();
    for chunk in pieces.chunks(5) {
        registry.patch(&mut upload, chunk).await?;
    }
    registry.finish(upload, &digest_of(&blob)).await?;
    let held = state.lock().unwrap_or_else(PoisonError::into_inner).held.clone();
    assert_eq!(held, blob);
    let sent: usize = server.seen().iter().filter(|s| s.method == "PATCH").map(|s| s.body.len()).sum();
    assert!(sent < 2 * blob.len(), "{sent} bytes were sent for {}", blob.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_cut_again_and_again_ends_the_call() -> Result<()> {
    let (server, _) = keeping((0..100).collect()).await?;
    let registry = anonymous(server.url())?;
    let mut upload = registry.start_upload("p1/base").await?;
    let error = refused(registry.patch(&mut upload, &[noise(1, 1_000_000)]).await)?;
    assert_eq!(class(&error), (FailureClass::Network, false), "{error:?}");
    Ok(())
}
