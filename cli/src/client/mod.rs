//! The server over HTTP, as the user commands see it.

mod error;
mod events;
mod login;

pub(crate) use events::Events;
pub(crate) use login::{Login, default_url};

use crate::exit::{Code, Fail};
use mothball_api::v1::views::List;
use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use uuid::Uuid;

/// Longest wait for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Longest wait for an answer that is no stream.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);
/// Longest silence in a stream of events; the server says something every 15 seconds.
const STREAM_LIMIT: Duration = Duration::from_secs(45);
/// How often a call is sent at most, when sending it again does no harm.
const TRIES: u32 = 3;
/// The longest that a server's `Retry-After` is waited for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// Entries asked for at once.
const PAGE: &str = "100";

/// The server, and as whom it is called.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    key: SecretString,
    project: Option<String>,
}

/// Questions of a query, with names that the server knows.
pub(crate) type Query<'a> = &'a [(&'a str, String)];

impl Client {
    pub(crate) fn new(url: &str, key: SecretString, project: Option<String>) -> Result<Self, Fail> {
        let base = Url::parse(url).ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
        let base = base.ok_or_else(|| {
            Fail::usage(format!("{url:?} is not the address of a server"))
                .hint("write http://HOST:PORT or https://HOST in MOTHBALL_URL or --url")
        })?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("mothball/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_LIMIT)
            .read_timeout(STREAM_LIMIT.max(ANSWER_LIMIT));
        // A proxy for the outside world does not know this machine's own servers.
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|e| Fail::failed(format!("start the HTTP client: {e}")))?;
        Ok(Self { http, base, key, project })
    }

    /// The address without what may be secret in it.
    pub(crate) fn address(&self) -> String {
        error::shown(&self.base)
    }

    /// Reads one thing.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &[&str], query: Query<'_>) -> Result<T, Fail> {
        self.call(Method::GET, path, query, None::<&()>, None).await
    }

    /// Reads something that is not JSON, as text.
    pub(crate) async fn text(&self, path: &[&str], query: Query<'_>) -> Result<String, Fail> {
        let request = self.request(Method::GET, path, query)?.timeout(ANSWER_LIMIT);
        let answer = request.send().await.map_err(|e| self.unreachable(&e))?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer).await);
        }
        answer.text().await.map_err(|e| self.unreachable(&e))
    }

    /// Reads a list to its end, or to `limit` entries.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: Query<'_>,
        limit: usize,
    ) -> Result<Vec<T>, Fail> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut question = query.to_vec();
            question.push(("limit", PAGE.to_owned()));
            question.extend(cursor.take().map(|c| ("cursor", c)));
            let page: List<T> = self.get(path, &question).await?;
            items.extend(page.items);
            match page.next_cursor {
                Some(next) if items.len() < limit => cursor = Some(next),
                _ => break,
            }
        }
        items.truncate(limit);
        Ok(items)
    }

    /// Starts a job, or makes something. Sent with a key of its own, so that a broken connection cannot make two.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, Fail> {
        self.call(Method::POST, path, &[], Some(body), Some(Uuid::new_v4())).await
    }

    /// Changes something.
    pub(crate) async fn patch<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, Fail> {
        self.call(Method::PATCH, path, &[], Some(body), None).await
    }

    /// Puts something in its place.
    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, Fail> {
        self.call(Method::PUT, path, &[], Some(body), None).await
    }

    /// Takes something away.
    pub(crate) async fn delete<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: Query<'_>,
    ) -> Result<T, Fail> {
        self.call(Method::DELETE, path, query, None::<&()>, None).await
    }

    /// Follows what happens to something.
    pub(crate) async fn events(&self, path: &[&str]) -> Result<Events, Fail> {
        let request = self.request(Method::GET, path, &[])?.header("accept", "text/event-stream");
        let answer = request.send().await.map_err(|e| self.unreachable(&e))?;
        if answer.status().is_success() {
            return Ok(Events::new(answer));
        }
        Err(self.refusal(answer).await)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: Query<'_>,
        body: Option<&impl Serialize>,
        once: Option<Uuid>,
    ) -> Result<T, Fail> {
        let harmless = once.is_some() || method != Method::POST;
        let mut left = if harmless { TRIES } else { 1 };
        loop {
            left -= 1;
            let mut request = self.request(method.clone(), path, query)?.timeout(ANSWER_LIMIT);
            if let Some(key) = once {
                request = request.header("idempotency-key", key.to_string());
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            match request.send().await {
                Ok(answer) if answer.status().is_success() => return self.read(answer).await,
                Ok(answer) => match again_after(&answer).filter(|_| left > 0) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(self.refusal(answer).await),
                },
                // Where nobody listens, asking again at once is of no use; a connection that broke may have been old.
                Err(e) if left > 0 && !e.is_connect() && !e.is_timeout() => {}
                Err(e) => return Err(self.unreachable(&e)),
            }
        }
    }

    fn request(&self, method: Method, path: &[&str], query: Query<'_>) -> Result<RequestBuilder, Fail> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        let mut key = HeaderValue::from_str(&format!("Bearer {}", self.key.expose_secret()))
            .map_err(|_| Fail::new(Code::NotAllowed, "the API key holds a character that no key has"))?;
        key.set_sensitive(true);
        let project = self.project.iter().map(|p| ("project", p.clone()));
        let question: Vec<(&str, String)> = query.iter().cloned().chain(project).collect();
        Ok(self.http.request(method, url).query(&question).header(AUTHORIZATION, key))
    }

    async fn read<T: DeserializeOwned>(&self, answer: Response) -> Result<T, Fail> {
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(|e| self.unreachable(&e))?;
        // Nothing was answered: for callers that want nothing (`()` or `Value`), `null` stands for it.
        let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(text).map_err(|e| {
            Fail::failed(format!(
                "{} answered {status} with something else than expected: {e}",
                self.address()
            ))
            .hint("see whether MOTHBALL_URL names a Mothball server, and of a version like this one's")
        })
    }

    async fn refusal(&self, answer: Response) -> Fail {
        let status = answer.status();
        let bytes = answer.bytes().await.unwrap_or_default();
        error::refused(&self.address(), status.as_u16(), &bytes)
    }

    fn unreachable(&self, error: &reqwest::Error) -> Fail {
        error::unreachable(&self.address(), error)
    }
}

/// How long to wait before a refused call is sent again; nothing when that is of no use.
fn again_after(answer: &Response) -> Option<Duration> {
    if !matches!(answer.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let asked = answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
    let pause = Duration::from_secs(asked.unwrap_or(1));
    (pause <= RETRY_AFTER_MAX).then_some(pause)
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let host = host.trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}
