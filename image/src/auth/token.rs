//! Tokens: fetched from the server that the registry names, kept until shortly before they end.

use super::secret_header;
use crate::answer::Answer;
use crate::client::read_body;
use crate::error::{RegistryError, from_reqwest};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// A token is not used in its last seconds: it would end on its way.
const MARGIN: Duration = Duration::from_secs(10);
/// How long a token holds whose server does not say; by the specification of Docker's registry.
const USUAL_SECONDS: u64 = 60;
/// Longest that a token is kept, whatever its server says.
const KEPT_MAX: Duration = Duration::from_hours(1);
/// Most tokens kept; one for each repository and action.
const TOKENS_MAX: usize = 512;
/// Longest answer of a token server.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Longest wait for a token server. The call that needs the token has its own, shorter or longer limit.
const TIMEOUT: Duration = Duration::from_mins(1);

/// A bearer token.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) value: SecretString,
    until: Instant,
}

impl Token {
    pub(super) fn is_fresh(&self) -> bool {
        Instant::now() < self.until
    }

    pub(super) fn header(&self) -> Result<HeaderValue, RegistryError> {
        secret_header(&format!("Bearer {}", self.value.expose_secret()))
    }
}

/// Keeps a token, within the bound.
pub(super) fn keep(tokens: &mut HashMap<String, Token>, key: String, token: Token) {
    if tokens.len() >= TOKENS_MAX {
        tokens.retain(|_, t| t.is_fresh());
    }
    if tokens.len() >= TOKENS_MAX {
        tokens.clear();
    }
    tokens.insert(key, token);
}

#[derive(Deserialize)]
struct TokenBody {
    token: Option<SecretString>,
    access_token: Option<SecretString>,
    expires_in: Option<u64>,
}

/// Fetches a token. The credentials go to the server that the registry names, as Docker does it.
pub(super) async fn fetch(
    client: &Client,
    realm: &Url,
    service: Option<&str>,
    scopes: &[String],
    basic: Option<HeaderValue>,
) -> Result<Token, RegistryError> {
    let what = format!("fetch a token from {}", realm.host_str().unwrap_or_default());
    let mut url = realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scopes {
            query.append_pair("scope", scope);
        }
    }
    let mut request = client.get(url).timeout(TIMEOUT);
    if let Some(basic) = basic {
        request = request.header(AUTHORIZATION, basic);
    }
    let response = request.send().await.map_err(|e| from_reqwest(&what, e, TIMEOUT))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = read_body(&what, response, BODY_BYTES_MAX, TIMEOUT).await?;
    if status != StatusCode::OK {
        return Err(Answer { status, headers, body, stream: None }.refusal(&what, ""));
    }
    // The error of serde_json would quote the body, which is a secret.
    let unclear = || RegistryError::Protocol { what: what.clone(), detail: "it holds no token".to_owned() };
    let body: TokenBody = serde_json::from_slice(&body).map_err(|_| unclear())?;
    let value = body.token.or(body.access_token).filter(|t| !t.expose_secret().is_empty());
    let holds = Duration::from_secs(body.expires_in.unwrap_or(USUAL_SECONDS)).min(KEPT_MAX);
    Ok(Token { value: value.ok_or_else(unclear)?, until: Instant::now() + holds.saturating_sub(MARGIN) })
}
