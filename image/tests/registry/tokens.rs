//! Tokens from a server that the registry names.

use crate::scripted::{Reply, Scripted, Seen};
use crate::support::{anonymous, basic, class, client, refused};
use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mothball_domain::failure::FailureClass;
use mothball_image::{Mount, RegistryError};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const EMPTY: &str = r#"{"name":"x","tags":["v1"]}"#;

/// A token server that hands out `t0`, `t1`, … to user "me" with password "pw".
async fn token_server(expires_in: u64) -> Result<Scripted> {
    let count = AtomicUsize::new(0);
    Scripted::start(move |seen, _| {
        let given = seen.header("authorization");
        if !given.is_empty() && given != format!("Basic {}", STANDARD.encode("me:pw")) {
            return Reply::status(401);
        }
        let token = format!("t{}", count.fetch_add(1, Ordering::Relaxed));
        Reply::status(200).body(json!({"token": token, "expires_in": expires_in}).to_string())
    })
    .await
}

/// A registry that wants a token and takes those that `good` takes.
async fn registry_with(
    realm: String,
    good: impl Fn(&str, usize) -> bool + Send + Sync + 'static,
) -> Result<Scripted> {
    Scripted::start(move |seen, before| {
        let token = seen.header("authorization").strip_prefix("Bearer ").unwrap_or_default();
        if !token.is_empty() && good(token, before) {
            return match seen.method.as_str() {
                "POST" => Reply::status(201),
                _ => Reply::status(200).body(EMPTY),
            };
        }
        let asks = format!("Bearer realm=\"{realm}/token\",service=\"the registry\",scope=\"ignored:x,y\"");
        Reply::status(401).header("WWW-Authenticate", asks)
    })
    .await
}

fn scopes(seen: &Seen) -> Vec<String> {
    let url = reqwest::Url::parse(&format!("http://x{}", seen.target));
    url.map(|u| u.query_pairs().filter(|(k, _)| k == "scope").map(|(_, v)| v.into_owned()).collect())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_serves_for_a_scope_until_it_ends() -> Result<()> {
    let tokens = token_server(300).await?;
    let server = registry_with(tokens.url().to_owned(), |_, _| true).await?;
    let registry = client(server.url(), basic("me", "pw"))?;
    for _ in 0..3 {
        assert_eq!(registry.tags("p1/base").await?, ["v1"]);
    }
    registry.tags("p1/other").await?;
    registry.ping().await?;
    assert_eq!(tokens.seen().len(), 3, "one for each scope");
    assert_eq!(scopes(&tokens.seen()[0]), ["repository:p1/base:pull"]);
    assert!(tokens.seen()[0].target.contains("service=the+registry"), "{}", tokens.seen()[0].target);
    assert!(scopes(&tokens.seen()[2]).is_empty());

    let nothing = mothball_domain::image::Digest::from_sha256([1; 32]);
    assert!(matches!(registry.mount_blob("p1/base", &nothing, "p1/other").await?, Mount::Mounted));
    assert_eq!(scopes(&tokens.seen()[3]), ["repository:p1/base:pull,push", "repository:p1/other:pull"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_its_last_seconds_is_not_used_again() -> Result<()> {
    let tokens = token_server(10).await?;
    let server = registry_with(tokens.url().to_owned(), |_, _| true).await?;
    let registry = client(server.url(), basic("me", "pw"))?;
    registry.tags("p1/base").await?;
    registry.tags("p1/base").await?;
    assert_eq!(tokens.seen().len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_is_fetched_anew_once() -> Result<()> {
    let tokens = token_server(300).await?;
    let server = registry_with(tokens.url().to_owned(), |token, _| token != "t0").await?;
    let registry = client(server.url(), basic("me", "pw"))?;
    registry.tags("p1/base").await?;
    assert_eq!(tokens.seen().len(), 2);

    let never = registry_with(tokens.url().to_owned(), |_, _| false).await?;
    let registry = client(never.url(), basic("me", "pw"))?;
    let error = refused(registry.tags("p1/base").await)?;
    assert_eq!(class(&error), (FailureClass::Auth, true));
    assert_eq!(never.seen().len(), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_calls_share_one_token() -> Result<()> {
    let tokens = token_server(300).await?;
    let server = registry_with(tokens.url().to_owned(), |_, _| true).await?;
    let registry = client(server.url(), basic("me", "pw"))?;
    registry.ping().await?;
    let calls = (0..16).map(|_| {
        let registry = registry.clone();
        async move { registry.tags("p1/base").await }
    });
    for result in futures_util::future::join_all(calls).await {
        result?;
    }
    assert_eq!(tokens.seen().len(), 2, "one for the ping, one for the repository");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_use_gets_a_token_too() -> Result<()> {
    let tokens = token_server(300).await?;
    let server = registry_with(tokens.url().to_owned(), |_, _| true).await?;
    anonymous(server.url())?.tags("p1/base").await?;
    assert_eq!(tokens.seen()[0].header("authorization"), "");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_server_that_refuses_or_breaks_is_told_apart() -> Result<()> {
    let tokens = token_server(300).await?;
    let server = registry_with(tokens.url().to_owned(), |_, _| true).await?;
    let error = refused(client(server.url(), basic("me", "geheim-123"))?.tags("p1/base").await)?;
    assert_eq!(class(&error), (FailureClass::Auth, true), "{error:?}");
    assert!(error.to_string().contains("\"me\"") && !error.to_string().contains("geheim"), "{error}");

    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let broken = Scripted::start(move |_, _| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::status(503),
        1 => Reply::hang_up(),
        _ => Reply::status(200).body(r#"{"access_token":"t9"}"#),
    })
    .await?;
    let server = registry_with(broken.url().to_owned(), |_, _| true).await?;
    anonymous(server.url())?.tags("p1/base").await?;
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_none_is_not_shown() -> Result<()> {
    for body in [
        r#"{"token":"geheim","expires_in":"soon"}"#,
        "{\"token\":\"gehe\nim\"}",
        "{}",
        "geheim",
        r#"{"token":""}"#,
    ] {
        let tokens = Scripted::start(move |_, _| Reply::status(200).body(body)).await?;
        let server = registry_with(tokens.url().to_owned(), |_, _| true).await?;
        let error = refused(anonymous(server.url())?.tags("p1/base").await)?;
        assert!(matches!(error, RegistryError::Protocol { .. }), "{error:?}");
        assert!(!format!("{error:?}").contains("gehe"), "{error:?}");
    }
    Ok(())
}
