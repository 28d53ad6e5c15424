//! A real registry behind a line that breaks.

use crate::support::{anonymous, class, client, noise, push, read, refused};
use anyhow::Result;
use bytes::Bytes;
use futures_util::stream;
use mothball_domain::failure::FailureClass;
use mothball_harness::proxy::{Address, Fault, Proxy, Rule};
use mothball_harness::registry::Registry as Server;
use mothball_image::oci::digest_of;
use mothball_image::{Credentials, Deletion, Registry, RegistryError, RegistrySettings};
use std::time::Duration;

async fn behind_a_proxy() -> Result<(Server, Proxy, Registry)> {
    let server = Server::start().await?;
    let proxy = Proxy::http(Address::Tcp(server.address())).await?;
    let registry = anonymous(&proxy.url())?;
    Ok((server, proxy, registry))
}

async fn upload(registry: &Registry, blob: &Bytes, chunk: usize) -> Result<(), RegistryError> {
    let mut upload = registry.start_upload("p1/base").await?;
    for piece in blob.chunks(chunk) {
        registry.patch(&mut upload, &[Bytes::copy_from_slice(piece)]).await?;
    }
    registry.finish(upload, &digest_of(blob)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_cut_between_chunks_goes_on_at_the_registrys_offset() -> Result<()> {
    let (_server, proxy, registry) = behind_a_proxy().await?;
    let blob = noise(1, 1_000_000);
    proxy.inject(Rule::on("PATCH", "/blobs/").skip(2).times(2), Fault::CutRequest { after: 0 });
    upload(&registry, &blob, 200_000).await?;
    assert_eq!((proxy.count("PATCH", ""), proxy.count("POST", "")), (7, 1));
    assert_eq!(proxy.count("GET", "/blobs/uploads/"), 2, "asked how far it came, after each cut");
    assert_eq!(read(&registry, "p1/base", &digest_of(&blob)).await?, blob);
    Ok(())
}

/// Why a chunk is what is sent again, and why an engine keeps its slices small: docker-registry 2.8 gives
/// a whole upload up when the line is cut inside a chunk.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_cut_inside_a_chunk_loses_the_upload_with_this_registry() -> Result<()> {
    let (_server, proxy, registry) = behind_a_proxy().await?;
    let blob = noise(1, 1_000_000);
    for fault in [Fault::CutRequest { after: 100_000 }, Fault::LoseAnswer] {
        proxy.inject(Rule::on("PATCH", "/blobs/").skip(2).times(1), fault);
        let error = refused(upload(&registry, &blob, 200_000).await)?;
        assert!(error.is_upload_lost(), "{error:?}");
        assert_eq!(class(&error), (FailureClass::Registry, false));
        proxy.clear();
    }
    upload(&registry, &blob, 200_000).await?;
    assert_eq!(read(&registry, "p1/base", &digest_of(&blob)).await?, blob);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_change_nothing() -> Result<()> {
    let (_server, proxy, registry) = behind_a_proxy().await?;
    for (method, part) in
        [("POST", "/blobs/"), ("PUT", "/blobs/"), ("PUT", "/manifests/"), ("GET", ""), ("HEAD", "")]
    {
        proxy.inject(Rule::on(method, part).times(1), Fault::LoseAnswer);
    }
    let pushed = push(&registry, "p1/base", "v1", &[noise(1, 1000), noise(2, 1000)]).await?;
    assert_eq!(registry.verify("p1/base", &pushed.digest).await?.size_bytes, pushed.bytes);
    proxy.inject(Rule::on("DELETE", "/manifests/").times(1), Fault::LoseAnswer);
    assert_eq!(registry.delete_manifest("p1/base", &pushed.digest).await?, Deletion::AlreadyGone);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_survives_an_error_and_a_refusal() -> Result<()> {
    let (_server, proxy, registry) = behind_a_proxy().await?;
    for method in ["HEAD", "POST", "PUT", "GET"] {
        for status in [500, 401] {
            proxy.inject(Rule::on(method, "/v2/").times(1), Fault::answer(status, ""));
        }
    }
    let pushed = push(&registry, "p1/base", "v1", &[noise(1, 1000)]).await?;
    registry.verify("p1/base", &pushed.digest).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_cut_on_its_way_back_goes_on_in_the_middle() -> Result<()> {
    let (_server, proxy, registry) = behind_a_proxy().await?;
    let blob = noise(1, 3_000_000);
    upload(&registry, &blob, 3_000_000).await?;
    proxy.inject(Rule::on("GET", "/blobs/").times(3), Fault::CutAnswer { after: 500_000 });
    assert_eq!(read(&registry, "p1/base", &digest_of(&blob)).await?, blob);
    assert_eq!(proxy.count("GET", "/blobs/"), 4);

    proxy.inject(Rule::on("GET", "/blobs/"), Fault::CutAnswer { after: 10 });
    let error = refused(read(&registry, "p1/base", &digest_of(&blob)).await)?;
    assert_eq!(class(&error), (FailureClass::Network, false), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_up_in_one_request() -> Result<()> {
    let (_server, proxy, registry) = behind_a_proxy().await?;
    let blob = noise(1, 5_000_000);
    let pieces: Vec<_> = blob.chunks(64 * 1024).map(|p| Ok(Bytes::copy_from_slice(p))).collect();
    let mut upload = registry.start_upload("p1/base").await?;
    registry.patch_stream(&mut upload, stream::iter(pieces)).await?;
    assert_eq!((upload.offset(), proxy.count("PATCH", "")), (5_000_000, 1));
    registry.patch(&mut upload, &[Bytes::from_static(b"and more")]).await?;
    let whole = [blob.as_ref(), b"and more"].concat();
    registry.finish(upload, &digest_of(&whole)).await?;
    assert_eq!(read(&registry, "p1/base", &digest_of(&whole)).await?, whole);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_stands_still_or_breaks_is_an_error() -> Result<()> {
    let (_server, proxy, _) = behind_a_proxy().await?;
    drop(client(&proxy.url(), Credentials::Anonymous)?);
    let mut settings = RegistrySettings::new(proxy.url(), Credentials::Anonymous);
    settings.stall_timeout = Duration::from_millis(300);
    let registry = Registry::new(settings)?;

    let mut upload = registry.start_upload("p1/base").await?;
    let error = refused(registry.patch_stream(&mut upload, stream::pending()).await)?;
    assert_eq!(class(&error), (FailureClass::Timeout, false), "{error:?}");

    let mut upload = registry.start_upload("p1/base").await?;
    let broken = stream::iter([Ok(noise(1, 1000)), Err(std::io::Error::other("the file is gone"))]);
    let error = refused(registry.patch_stream(&mut upload, broken).await)?;
    assert!(error.is_passing() && error.to_string().contains("the file is gone"), "{error:?}");

    proxy.inject(Rule::on("PATCH", "").times(1), Fault::CutRequest { after: 100_000 });
    let mut upload = registry.start_upload("p1/base").await?;
    let endless = stream::repeat_with(|| Ok(noise(1, 64 * 1024)));
    let error = refused(registry.patch_stream(&mut upload, endless).await)?;
    assert_eq!(class(&error), (FailureClass::Network, false), "{error:?}");
    Ok(())
}
