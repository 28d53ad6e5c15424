//! Registries in a bad mood.

use crate::scripted::{Reply, Scripted};
use crate::support::{anonymous, class, client, noise, read, refused};
use anyhow::Result;
use mothball_domain::failure::FailureClass;
use mothball_harness::registry::Registry as Server;
use mothball_image::oci::{digest_of, media};
use mothball_image::{Credentials, Registry, RegistryError, RegistrySettings};
use std::time::{Duration, Instant};

const TAGS: &str = r#"{"name":"p1/base","tags":["v1"]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_error_then_a_refusal_then_an_answer_is_an_answer() -> Result<()> {
    let server = Scripted::start(|_, before| match before {
        0 => Reply::status(500),
        1 => Reply::status(401),
        _ => Reply::status(200).body(TAGS),
    })
    .await?;
    assert_eq!(anonymous(server.url())?.tags("p1/base").await?, ["v1"]);
    assert_eq!(server.seen().len(), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_asked_for_again() -> Result<()> {
    let server = Scripted::start(|_, before| match before {
        0 => Reply::hang_up(),
        1 => Reply::status(200).body(TAGS).cut_at(5),
        _ => Reply::status(200).body(TAGS),
    })
    .await?;
    assert_eq!(anonymous(server.url())?.tags("p1/base").await?, ["v1"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_stays_broken_is_asked_four_times() -> Result<()> {
    let server = Scripted::start(|_, _| Reply::status(503)).await?;
    let error = refused(anonymous(server.url())?.tags("p1/base").await)?;
    assert_eq!(class(&error), (FailureClass::Registry, false));
    assert_eq!(server.seen().len(), 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_breaks_off_goes_on_in_the_middle() -> Result<()> {
    let blob = noise(1, 10_000);
    let whole = blob.clone();
    let server = Scripted::start(move |seen, before| {
        let from: usize = seen
            .header("range")
            .strip_prefix("bytes=")
            .and_then(|r| r.trim_end_matches('-').parse().ok())
            .unwrap_or(0);
        let rest = whole[from..].to_vec();
        let reply = if from == 0 {
            Reply::status(200)
        } else {
            Reply::status(206).header("Content-Range", format!("bytes {from}-9999/10000"))
        };
        let reply = reply.body(rest);
        if before < 3 { reply.cut_at(2_000) } else { reply }
    })
    .await?;
    let registry = anonymous(server.url())?;
    assert_eq!(read(&registry, "p1/base", &digest_of(&blob)).await?, blob);
    assert_eq!(server.seen().len(), 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_with_other_bytes_is_an_error_at_its_end() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let blob = noise(1, 10_000);
    registry.put_blob("p1/base", &digest_of(&blob), blob.clone()).await?;
    server.corrupt_blob(digest_of(&blob).as_str())?;
    let error = refused(read(&registry, "p1/base", &digest_of(&blob)).await)?;
    assert!(matches!(error, RegistryError::Digest { .. }), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_with_other_bytes_than_its_digest_is_refused() -> Result<()> {
    let manifest = r#"{"schemaVersion":2,"manifests":[]}"#;
    let server = Scripted::start(move |_, _| {
        Reply::status(200)
            .header("Content-Type", media::OCI_INDEX)
            .header("Docker-Content-Digest", digest_of(b"other").to_string())
            .body(manifest)
    })
    .await?;
    let registry = anonymous(server.url())?;
    for reference in ["v1", digest_of(b"other").as_str()] {
        let error = refused(registry.manifest("p1/base", reference).await)?;
        assert!(matches!(error, RegistryError::Digest { .. }), "{error:?}");
    }
    assert!(registry.manifest("p1/base", digest_of(manifest.as_bytes()).as_str()).await?.is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_honoured_within_its_bound() -> Result<()> {
    let server = Scripted::start(|_, before| match before {
        0 => Reply::status(429).header("Retry-After", "1"),
        _ => Reply::status(200).body(TAGS),
    })
    .await?;
    let begin = Instant::now();
    anonymous(server.url())?.tags("p1/base").await?;
    assert!(begin.elapsed() >= Duration::from_secs(1));

    let server = Scripted::start(|_, _| Reply::status(429).header("Retry-After", "3600")).await?;
    let begin = Instant::now();
    let error = refused(anonymous(server.url())?.tags("p1/base").await)?;
    assert_eq!(class(&error), (FailureClass::Registry, false));
    assert!(matches!(error, RegistryError::Busy { .. }) && server.seen().len() == 1, "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(10));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded() -> Result<()> {
    let server = Scripted::start(|_, _| {
        Reply::status(200).header("Content-Type", media::OCI_MANIFEST).body(vec![b' '; 5 << 20])
    })
    .await?;
    let error = refused(anonymous(server.url())?.manifest("p1/base", "v1").await)?;
    assert!(matches!(error, RegistryError::Protocol { .. }), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_hangs_is_a_timeout_and_one_that_is_away_is_the_network() -> Result<()> {
    let mut server = Server::start().await?;
    let mut settings = RegistrySettings::new(server.url(), Credentials::Anonymous);
    drop(client(&server.url(), Credentials::Anonymous)?);
    settings.timeout = Duration::from_millis(300);
    let registry = Registry::new(settings)?;
    server.pause();
    let error = refused(registry.ping().await)?;
    assert_eq!(class(&error), (FailureClass::Timeout, false), "{error:?}");
    server.resume();
    registry.ping().await?;
    server.kill9();
    let error = refused(registry.ping().await)?;
    assert_eq!(class(&error), (FailureClass::Network, false), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_comes_in_pages_and_has_an_end() -> Result<()> {
    let server = Scripted::start(|seen, _| {
        if seen.target.contains("last=b") {
            return Reply::status(200).body(r#"{"tags":["c"]}"#);
        }
        // The wrong scheme and port, as behind a proxy that the registry does not know of.
        let link = "<https://127.0.0.1/v2/p1/base/tags/list?last=b&n=2>; rel=\"next\"";
        Reply::status(200).header("Link", link).body(r#"{"tags":["a","b"]}"#)
    })
    .await?;
    assert_eq!(anonymous(server.url())?.tags("p1/base").await?, ["a", "b", "c"]);

    let endless = Scripted::start(|_, before| {
        let link = format!("</v2/_catalog?last={before}>; rel=\"next\"");
        Reply::status(200).header("Link", link).body(r#"{"repositories":["a","b"]}"#)
    })
    .await?;
    let error = refused(anonymous(endless.url())?.repositories(9).await)?;
    assert!(matches!(error, RegistryError::TooMany { .. }), "{error:?}");
    assert_eq!(endless.seen().len(), 5);
    Ok(())
}
