//! Names and passwords.

use crate::scripted::{Reply, Scripted};
use crate::support::{anonymous, basic, class, client, noise, push, refused};
use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mothball_domain::failure::FailureClass;
use mothball_harness::registry::Registry as Server;
use mothball_image::{Credentials, RegistryError};
use secrecy::ExposeSecret as _;
use std::path::PathBuf;

/// Holds characters that base64 writes differently for URLs, and colons.
const ODD: &str = "pw~?>x~~??:ü";

#[tokio::test(flavor = "multi_thread")]
async fn an_odd_password_is_taken() -> Result<()> {
    let server = Server::options().login("me", ODD).start().await?;
    let registry = client(&server.url(), basic("me", ODD))?;
    registry.ping().await?;
    let pushed = push(&registry, "p1/base", "v1", &[noise(1, 1000)]).await?;
    registry.verify("p1/base", &pushed.digest).await?;
    let auth = registry.docker_credentials()?.context("no credentials")?;
    assert_eq!((auth.username.as_str(), auth.password.expose_secret()), ("me", ODD));
    assert_eq!(auth.serveraddress, server.address());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_auth_at_once_and_for_good_and_never_shown() -> Result<()> {
    let server = Server::options().login("me", ODD).start().await?;
    for (user, password) in [("me", "geheim-123"), ("nobody", "geheim-123")] {
        let registry = client(&server.url(), basic(user, password))?;
        let errors = [
            refused(registry.ping().await)?,
            refused(registry.manifest("p1/base", "v1").await)?,
            refused(registry.start_upload("p1/base").await)?,
        ];
        for error in errors {
            assert_eq!(class(&error), (FailureClass::Auth, true));
            let text = format!("{error} {error:?} {registry:?} {:?}", error.failure());
            let encoded = STANDARD.encode(format!("{user}:{password}"));
            assert!(!text.contains(password) && !text.contains(&encoded), "{text}");
            assert!(error.to_string().contains(user), "{error}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credentials_where_some_are_wanted_is_auth() -> Result<()> {
    let server = Server::options().login("me", ODD).start().await?;
    let error = refused(anonymous(&server.url())?.ping().await)?;
    assert_eq!(class(&error), (FailureClass::Auth, true));
    assert!(error.to_string().contains("without credentials"), "{error}");
    Ok(())
}

/// A registry with one user whose password changes after the first request that brings it.
async fn rotating() -> Result<Scripted> {
    Scripted::start(|seen, before| {
        let password = if before < 2 { "old" } else { "new" };
        let wanted = format!("Basic {}", STANDARD.encode(format!("me:{password}")));
        if seen.header("authorization") == wanted {
            Reply::status(200).body("{}")
        } else {
            Reply::status(401).header("WWW-Authenticate", "Basic realm=x")
        }
    })
    .await
}

fn password_file(password: &str) -> Result<(tempfile::TempDir, PathBuf)> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("password");
    std::fs::write(&file, format!("{password}\n"))?;
    Ok((dir, file))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_changed_in_its_file_is_read_anew_within_the_call() -> Result<()> {
    let server = rotating().await?;
    let (_dir, file) = password_file("old")?;
    let credentials = Credentials::File { username: "me".to_owned(), password_file: file.clone() };
    let registry = client(server.url(), credentials)?;
    registry.ping().await?;
    std::fs::write(&file, "new\n")?;
    registry.ping().await?;
    assert_eq!(server.seen().len(), 4, "asked, told; refused with the old one, taken with the new one");
    let auth = registry.docker_credentials()?.context("no credentials")?;
    assert_eq!(auth.password.expose_secret(), "new");

    std::fs::remove_file(&file)?;
    assert!(matches!(registry.docker_credentials(), Err(RegistryError::PasswordFile { .. })));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_not_tried_for_ever() -> Result<()> {
    let server = rotating().await?;
    let registry = client(server.url(), basic("me", "wrong"))?;
    assert!(matches!(registry.ping().await, Err(RegistryError::Auth { .. })));
    assert!(server.seen().len() <= 3, "{} requests", server.seen().len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_repeats_the_credentials_does_not_get_them_into_an_error() -> Result<()> {
    let server = Scripted::start(|seen, _| {
        let given = seen.header("authorization").to_owned();
        let body = format!(r#"{{"errors":[{{"code":"X","message":"you sent {given} and geheim-123"}}]}}"#);
        let status = if given.is_empty() || seen.target == "/v2/" { 401 } else { 400 };
        Reply::status(status).header("WWW-Authenticate", "Basic realm=x").body(body)
    })
    .await?;
    let registry = client(server.url(), basic("me", "geheim-123"))?;
    let encoded = STANDARD.encode("me:geheim-123");
    for error in [refused(registry.manifest("p1/base", "v1").await)?, refused(registry.ping().await)?] {
        let text = format!("{error:?}");
        assert!(text.contains("***") && !text.contains("geheim") && !text.contains(&encoded), "{text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_do_not_follow_an_upload_to_another_host() -> Result<()> {
    let other = Scripted::start(|_, _| Reply::status(201)).await?;
    // The same machine by another name is another host.
    let elsewhere = other.url().replace("127.0.0.1", "localhost");
    let server = Scripted::start(move |seen, _| match (seen.method.as_str(), seen.header("authorization")) {
        (_, "") => Reply::status(401).header("WWW-Authenticate", "Basic realm=x"),
        ("POST", _) => Reply::status(202).header("Location", format!("{elsewhere}/there?a=b")),
        _ => Reply::status(404),
    })
    .await?;
    let registry = client(server.url(), basic("me", "geheim"))?;
    let blob = noise(1, 100);
    registry.put_blob("p1/base", &mothball_image::oci::digest_of(&blob), blob.clone()).await?;
    let seen = other.seen();
    assert_eq!((seen.len(), seen[0].body.as_slice()), (1, &blob[..]));
    assert!(seen[0].target.starts_with("/there?a=b&digest=sha256"), "{}", seen[0].target);
    assert_eq!(seen[0].header("authorization"), "");
    Ok(())
}
