//! Credentials: what a registry asks for, what it is given, and what is read anew when it refuses.

mod challenge;
mod token;

use crate::error::RegistryError;
use crate::settings::Credentials;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use challenge::Challenge;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Url};
use secrecy::{ExposeSecret, SecretString};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use token::Token;

/// Gives each request its `Authorization`.
#[derive(Debug)]
pub(crate) struct Authenticator {
    credentials: Credentials,
    /// Whether the registry is reached by https: then its token server must be, too.
    secure: bool,
    known: Mutex<Known>,
    /// Held while a token is fetched, so that parallel uploads fetch one and not one each.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    challenge: Option<Challenge>,
    password: Option<SecretString>,
    tokens: HashMap<String, Token>,
    /// The last secrets that were refused: the registry's answer may still repeat them.
    spent: Vec<SecretString>,
}

/// Most refused secrets remembered.
const SPENT_MAX: usize = 4;

impl Known {
    fn forget_password(&mut self) {
        let password = self.password.take();
        self.spend(password);
    }

    fn spend(&mut self, secret: Option<SecretString>) {
        if self.spent.len() >= SPENT_MAX {
            self.spent.remove(0);
        }
        self.spent.extend(secret);
    }
}

impl Authenticator {
    pub(crate) fn new(credentials: Credentials, secure: bool) -> Self {
        Self { credentials, secure, known: Mutex::default(), fetching: tokio::sync::Mutex::default() }
    }

    /// As whom, in words for an error.
    pub(crate) fn who(&self) -> String {
        self.credentials.who()
    }

    /// The `Authorization` for a request of these scopes; none while the registry never asked for one.
    pub(crate) async fn header(
        &self,
        client: &Client,
        scopes: &[String],
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let challenge = self.lock().challenge.clone();
        match challenge {
            None => Ok(None),
            Some(Challenge::Basic) => self.basic(),
            Some(Challenge::Bearer { realm, service }) => {
                self.bearer(client, &realm, service.as_deref(), scopes).await.map(Some)
            }
        }
    }

    /// Learns from a 401 what the registry wants, and forgets what it has just refused: the token of
    /// these scopes, and a password that may have changed in its file.
    pub(crate) fn refused(&self, scopes: &[String], headers: &HeaderMap) -> Result<(), RegistryError> {
        let asked = challenge::read(headers);
        if let Some(Challenge::Bearer { realm, .. }) = &asked
            && self.secure
            && realm.scheme() != "https"
        {
            return Err(RegistryError::Protocol {
                what: "fetch a token".to_owned(),
                detail: "the registry is reached by https and names a token server that is not".to_owned(),
            });
        }
        let mut known = self.lock();
        let token = known.tokens.remove(&scopes.join(" ")).map(|t| t.value);
        known.spend(token);
        known.forget_password();
        if asked.is_some() {
            known.challenge = asked;
        }
        Ok(())
    }

    /// Takes every secret that is known here out of a text that comes from outside.
    pub(crate) fn redact(&self, text: &str) -> String {
        let known = self.lock();
        let mut clean = text.to_owned();
        let mut hide = |secret: &str| {
            if !secret.is_empty() && clean.contains(secret) {
                clean = clean.replace(secret, "***");
            }
        };
        let tokens = known.tokens.values().map(|t| &t.value);
        for secret in known.password.iter().chain(&known.spent).chain(tokens) {
            hide(&self.pair(secret));
            hide(secret.expose_secret());
        }
        clean
    }

    fn basic(&self) -> Result<Option<HeaderValue>, RegistryError> {
        let Some(password) = self.password()? else { return Ok(None) };
        secret_header(&format!("Basic {}", self.pair(&password))).map(Some)
    }

    async fn bearer(
        &self,
        client: &Client,
        realm: &Url,
        service: Option<&str>,
        scopes: &[String],
    ) -> Result<HeaderValue, RegistryError> {
        let key = scopes.join(" ");
        let _one_at_a_time = self.fetching.lock().await;
        let cached = self.lock().tokens.get(&key).filter(|t| t.is_fresh()).map(Token::header);
        if let Some(header) = cached {
            return header;
        }
        let mut fetched = token::fetch(client, realm, service, scopes, self.basic()?).await;
        if matches!(fetched, Err(RegistryError::Auth { .. })) && self.reads_a_file() {
            self.lock().forget_password();
            fetched = token::fetch(client, realm, service, scopes, self.basic()?).await;
        }
        let token = fetched.map_err(|e| self.name_user(e))?;
        let header = token.header();
        token::keep(&mut self.lock().tokens, key, token);
        header
    }

    fn reads_a_file(&self) -> bool {
        matches!(self.credentials, Credentials::File { .. })
    }

    fn name_user(&self, error: RegistryError) -> RegistryError {
        match error {
            RegistryError::Auth { what, detail, .. } => {
                RegistryError::Auth { what, user: self.who(), detail: self.redact(&detail) }
            }
            other => other,
        }
    }

    /// The password, read once and again after each refusal.
    fn password(&self) -> Result<Option<SecretString>, RegistryError> {
        if let Some(password) = &self.lock().password {
            return Ok(Some(password.clone()));
        }
        let password = self.credentials.password()?;
        self.lock().password.clone_from(&password);
        Ok(password)
    }

    /// `user:password` in base64, as the Basic scheme wants it.
    fn pair(&self, password: &SecretString) -> String {
        let user = self.credentials.username().unwrap_or_default();
        STANDARD.encode(format!("{user}:{}", password.expose_secret()))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // A panic elsewhere leaves nothing half-written here: all of it can be learned anew.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A header that no log prints.
fn secret_header(text: &str) -> Result<HeaderValue, RegistryError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| RegistryError::Protocol {
        what: "write the credentials".to_owned(),
        detail: "the token holds characters that a header cannot".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}
