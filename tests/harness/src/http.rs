//! A small client for Mothball's API, and for anything else that speaks HTTP.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::wait::try_eventually;

const REQUEST_LIMIT: Duration = Duration::from_mins(1);
const FINAL: [&str; 3] = ["succeeded", "failed", "cancelled"];

/// A client that follows no proxy of the environment and has a TLS provider.
///
/// # Panics
/// When the client cannot be built, which no test can survive.
pub fn client() -> reqwest::Client {
    // The first caller of the process installs it; the others find it there.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .timeout(REQUEST_LIMIT)
        .build()
        .expect("the client has no variable part")
}

/// A person's or a program's view of the API: an address and a key.
#[derive(Clone, Debug)]
pub struct Api {
    client: reqwest::Client,
    url: String,
    key: Option<String>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: Bytes,
    /// The body as JSON, `null` where it is none.
    pub json: Value,
    /// What was asked, for messages.
    pub request: String,
}

impl Api {
    /// A client of the server at `url` with this key.
    pub fn new(url: &str, key: &str) -> Self {
        Self { client: client(), url: url.to_owned(), key: Some(key.to_owned()) }
    }

    /// The same server, asked with another key.
    #[must_use]
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    /// The same server, asked without a key.
    #[must_use]
    pub fn without_key(&self) -> Self {
        Self { key: None, ..self.clone() }
    }

    /// Begins a request, for headers and bodies that the short forms do not have.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        send(self.request(Method::GET, path)).await
    }

    /// POST with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        send(self.request(Method::POST, path).json(body)).await
    }

    /// POST with a JSON body and an idempotency key.
    pub async fn post_once(&self, path: &str, key: &str, body: &Value) -> Result<Answer> {
        let request = self.request(Method::POST, path).header("idempotency-key", key);
        send(request.json(body)).await
    }

    /// PATCH with a JSON body.
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Answer> {
        send(self.request(Method::PATCH, path).json(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        send(self.request(Method::DELETE, path)).await
    }

    /// A job as it is now.
    pub async fn job(&self, id: &str) -> Result<Value> {
        self.get(&format!("/v1/jobs/{id}")).await?.expect(200)
    }

    /// Waits until a job satisfies a predicate; fails with the job as last seen. An API that is away is asked again.
    pub async fn wait_job_until(
        &self,
        id: &str,
        limit: Duration,
        what: &str,
        predicate: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut last = Value::Null;
        let answer = try_eventually(limit, what, async || {
            let Ok(job) = self.job(id).await else {
                return Ok(None);
            };
            last.clone_from(&job);
            if predicate(&job) {
                return Ok(Some(job));
            }
            ensure!(!is_final(&job), "the job ended");
            Ok(None)
        });
        let answer = answer.await;
        answer.with_context(|| format!("wait for {what} of the job {last:#}"))
    }

    /// Waits for the end of a job, whatever it is.
    pub async fn wait_job(&self, id: &str, limit: Duration) -> Result<Value> {
        self.wait_job_until(id, limit, "the end", is_final).await
    }

    /// Waits for the success of a job.
    pub async fn wait_success(&self, id: &str, limit: Duration) -> Result<Value> {
        let job = self.wait_job(id, limit).await?;
        ensure!(job["state"] == "succeeded", "the job did not succeed: {job:#}");
        Ok(job)
    }

    /// Waits for the failure of a job, with this class of error.
    pub async fn wait_failure(&self, id: &str, class: &str, limit: Duration) -> Result<Value> {
        let job = self.wait_job(id, limit).await?;
        let as_said = job["state"] == "failed" && job["error"]["class"] == class;
        ensure!(as_said, "the job did not fail as {class}: {job:#}");
        Ok(job)
    }
}

impl Answer {
    /// The JSON of an answer that must have this status; the error holds what came instead.
    pub fn expect(self, status: u16) -> Result<Value> {
        let Self { status: got, body, json, request, .. } = self;
        ensure!(
            got == status,
            "{request} answered {got} instead of {status}: {}",
            String::from_utf8_lossy(&body)
        );
        Ok(json)
    }

    /// The `code` of an answer that must be problem+json with this status.
    pub fn problem(self, status: u16) -> Result<String> {
        let kind = self.headers.get("content-type").cloned();
        let request = self.request.clone();
        let json = self.expect(status)?;
        ensure!(
            kind.as_ref().is_some_and(|kind| kind == "application/problem+json"),
            "{request} answered {status} as {kind:?}"
        );
        let code = json["code"].as_str();
        code.map(str::to_owned).with_context(|| format!("{request} answered without a code: {json}"))
    }

    /// The id of the job in an answer with this status.
    pub fn job_id(self, status: u16) -> Result<String> {
        let json = self.expect(status)?;
        json["id"].as_str().map(str::to_owned).with_context(|| format!("no id in {json}"))
    }
}

/// Sends a request and reads the whole answer.
pub async fn send(request: reqwest::RequestBuilder) -> Result<Answer> {
    let (client, request) = request.build_split();
    let request = request.context("build a request")?;
    let shown = format!("{} {}", request.method(), request.url().path());
    let answer = client.execute(request).await.with_context(|| shown.clone())?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = answer.bytes().await.with_context(|| format!("read the answer to {shown}"))?;
    Ok(Answer {
        status,
        headers,
        json: serde_json::from_slice(&body).unwrap_or_default(),
        body,
        request: shown,
    })
}

fn is_final(job: &Value) -> bool {
    job["state"].as_str().is_some_and(|state| FINAL.contains(&state))
}
