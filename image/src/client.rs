//! One HTTP call to a registry: with credentials, within limits, repeated where that is safe.

mod call;

pub(crate) use call::{Call, Once};

use crate::answer::Answer;
use crate::auth::Authenticator;
use crate::error::{RegistryError, from_reqwest};
use crate::oci::name::check_repository;
use crate::settings::{Credentials, DockerAuth, Endpoint, RegistrySettings, settings};
use crate::upload::UploadLog;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue};
use reqwest::{Body, Client, Method, RequestBuilder, Response, StatusCode, Url};
use std::sync::Arc;
use std::time::Duration;

/// Waits between the sends of one call; their number is how often a call is repeated.
const BACKOFF: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(800), Duration::from_secs(2)];
/// Longest body of an answer that is read when a call does not say otherwise.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// A registry. Clones share connections and tokens.
#[derive(Debug, Clone)]
pub struct Registry {
    inner: Arc<Inner>,
    pub(crate) log: Option<Arc<dyn UploadLog>>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    endpoint: Endpoint,
    settings: RegistrySettings,
    auth: Authenticator,
}

impl Registry {
    /// Checks the settings; sends nothing. The process must have a default TLS provider.
    pub fn new(settings: RegistrySettings) -> Result<Self, RegistryError> {
        let endpoint = Endpoint::new(&settings)?;
        let client = client(&settings)?;
        let auth = Authenticator::new(settings.credentials.clone(), endpoint.base.scheme() == "https");
        Ok(Self { inner: Arc::new(Inner { client, endpoint, settings, auth }), log: None })
    }

    /// The same registry, whose uploads are written down while they go on.
    #[must_use]
    pub fn with_upload_log(mut self, log: Arc<dyn UploadLog>) -> Self {
        self.log = Some(log);
        self
    }

    /// What Docker references to this registry begin with: `127.0.0.1:5000`.
    pub fn host(&self) -> &str {
        &self.inner.endpoint.host
    }

    /// What Docker needs to push and pull; nothing for anonymous use. A password file is read anew.
    pub fn docker_credentials(&self) -> Result<Option<DockerAuth>, RegistryError> {
        let credentials: &Credentials = &self.inner.settings.credentials;
        let (Some(username), Some(password)) = (credentials.username(), credentials.password()?) else {
            return Ok(None);
        };
        let serveraddress = self.host().to_owned();
        Ok(Some(DockerAuth { username: username.to_owned(), password, serveraddress }))
    }

    /// Asks whether the registry is there and takes the credentials.
    pub async fn ping(&self) -> Result<(), RegistryError> {
        let call = self.call(Method::GET, self.url("v2/")?, format!("reach the registry {}", self.host()));
        let answer = self.send(&call).await?;
        if answer.status == StatusCode::OK { Ok(()) } else { Err(self.refusal(&call, &answer)) }
    }

    pub(crate) fn settings(&self) -> &RegistrySettings {
        &self.inner.settings
    }

    /// A URL below the registry's root. `path` is made of checked names only.
    pub(crate) fn url(&self, path: &str) -> Result<Url, RegistryError> {
        self.inner
            .endpoint
            .base
            .join(path)
            .map_err(|e| RegistryError::Protocol { what: "write a URL".to_owned(), detail: e.to_string() })
    }

    /// A URL below a repository, whose name is checked here.
    pub(crate) fn repo_url(&self, repo: &str, rest: &str) -> Result<Url, RegistryError> {
        check_repository(repo)?;
        self.url(&format!("v2/{repo}/{rest}"))
    }

    /// A URL that the registry named. One on the registry's own host is taken as a path on the origin
    /// that we know: behind a proxy a registry often does not know its own scheme and port.
    pub(crate) fn follow(&self, what: &str, location: &str) -> Result<Url, RegistryError> {
        let base = &self.inner.endpoint.base;
        let wrong = |detail: String| RegistryError::Protocol { what: what.to_owned(), detail };
        let named = base.join(location).map_err(|e| wrong(format!("its location: {e}")))?;
        if named.host_str() != base.host_str() {
            let secure = base.scheme() == "https";
            if !matches!(named.scheme(), "https" | "http") || (secure && named.scheme() != "https") {
                return Err(wrong("it sends us from https to another scheme".to_owned()));
            }
            return Ok(named);
        }
        let mut url = base.clone();
        url.set_path(named.path());
        url.set_query(named.query());
        Ok(url)
    }

    /// A call with the usual limits, repeated when that is needed.
    pub(crate) fn call(&self, method: Method, url: Url, what: String) -> Call {
        Call {
            method,
            url,
            what,
            scopes: Vec::new(),
            headers: HeaderMap::new(),
            body: Vec::new(),
            once: Once::default(),
            timeout: self.inner.settings.timeout,
            body_max: BODY_BYTES_MAX,
            repeat: true,
            stream: false,
        }
    }

    /// The error that an answer stands for.
    pub(crate) fn refusal(&self, call: &Call, answer: &Answer) -> RegistryError {
        // The registry's words are cleaned before they become an error: it may repeat what it was sent.
        let body = self.inner.auth.redact(&String::from_utf8_lossy(&answer.body));
        let clean = Answer {
            status: answer.status,
            headers: HeaderMap::new(),
            body: Bytes::from(body),
            stream: None,
        };
        clean.refusal(&call.what, &self.inner.auth.who())
    }

    /// Sends a call and returns the registry's answer. 401, 403, 429 and 5xx are errors already; what
    /// other refusals mean is for the caller to say.
    pub(crate) async fn send(&self, call: &Call) -> Result<Answer, RegistryError> {
        let mut waits = BACKOFF.iter();
        loop {
            let (error, asked) = match self.send_within_limit(call).await {
                Ok(answer) if !refuses(answer.status) => return Ok(answer),
                Ok(answer) => (self.refusal(call, &answer), answer.retry_after()),
                Err(error) => (error, None),
            };
            // What was answered with 429 was not taken: it may be sent again, whatever it is.
            let harmless = call.repeat || matches!(error, RegistryError::Busy { .. });
            let next = waits.next().filter(|_| harmless && error.is_passing());
            let Some(wait) = next else { return Err(error) };
            let wait = asked.map_or(*wait, |asked| asked.max(*wait));
            if wait > self.inner.settings.retry_after_max {
                return Err(error);
            }
            tracing::debug!(call = %call.what, %error, wait_ms = wait.as_millis() as u64, "registry call repeated");
            tokio::time::sleep(wait).await;
        }
    }

    async fn send_within_limit(&self, call: &Call) -> Result<Answer, RegistryError> {
        let limit = call.timeout;
        tokio::time::timeout(limit, self.send_once(call))
            .await
            .unwrap_or_else(|_| Err(RegistryError::Timeout { what: call.what.clone(), limit }))
    }

    /// Sends a call, and again after a 401: once to bring what the registry asks for, once more with
    /// credentials that were read and fetched anew.
    async fn send_once(&self, call: &Call) -> Result<Answer, RegistryError> {
        let ours = call.url.origin() == self.inner.endpoint.base.origin();
        let mut refused = 0;
        loop {
            let header =
                if ours { self.inner.auth.header(&self.inner.client, &call.scopes).await? } else { None };
            let had_header = header.is_some();
            let response = self.transmit(call, header).await?;
            let status = response.status();
            let asks = status == StatusCode::UNAUTHORIZED || (status == StatusCode::FORBIDDEN && had_header);
            if !(asks && ours && refused < 2) {
                return read(call, response).await;
            }
            refused += 1;
            let headers = response.headers().clone();
            drop(read(call, response).await?);
            self.inner.auth.refused(&call.scopes, &headers)?;
        }
    }

    async fn transmit(&self, call: &Call, header: Option<HeaderValue>) -> Result<Response, RegistryError> {
        let mut request =
            self.inner.client.request(call.method.clone(), call.url.clone()).headers(call.headers.clone());
        if let Some(header) = header {
            request = request.header(AUTHORIZATION, header);
        }
        if let Some(body) = call.once.take(&call.what)? {
            return transmitted(call, request.body(body)).await;
        }
        match call.body.as_slice() {
            [] if call.method == Method::GET || call.method == Method::HEAD => {}
            [] => request = request.header(CONTENT_LENGTH, 0),
            [one] => request = request.body(one.clone()),
            many => {
                let pieces: Vec<std::io::Result<Bytes>> = many.iter().cloned().map(Ok).collect();
                request = request
                    .header(CONTENT_LENGTH, call.body_bytes())
                    .body(Body::wrap_stream(stream::iter(pieces)));
            }
        }
        transmitted(call, request).await
    }
}

async fn transmitted(call: &Call, request: RequestBuilder) -> Result<Response, RegistryError> {
    request.send().await.map_err(|e| from_reqwest(&call.what, e, call.timeout))
}

fn refuses(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS)
}

async fn read(call: &Call, response: Response) -> Result<Answer, RegistryError> {
    let (status, headers) = (response.status(), response.headers().clone());
    if call.stream && status.is_success() {
        return Ok(Answer { status, headers, body: Bytes::new(), stream: Some(response) });
    }
    let body = if status.is_success() {
        read_body(&call.what, response, call.body_max, call.timeout).await?
    } else {
        // The status of a refusal counts, also when its text breaks off: docker-registry's 416 does.
        read_body(&call.what, response, BODY_BYTES_MAX, call.timeout).await.unwrap_or_default()
    };
    Ok(Answer { status, headers, body, stream: None })
}

/// Reads a body within a bound.
pub(crate) async fn read_body(
    what: &str,
    mut response: Response,
    max: usize,
    limit: Duration,
) -> Result<Bytes, RegistryError> {
    let mut body = BytesMut::new();
    while let Some(piece) = response.chunk().await.map_err(|e| from_reqwest(what, e, limit))? {
        if body.len() + piece.len() > max {
            let detail = format!("it is longer than {max} bytes");
            return Err(RegistryError::Protocol { what: what.to_owned(), detail });
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

fn client(wanted: &RegistrySettings) -> Result<Client, RegistryError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(settings("url", "the process has installed no TLS provider, which is a defect"));
    }
    let mut builder = Client::builder()
        .user_agent(concat!("mothball/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(wanted.connect_timeout)
        .tcp_nodelay(true)
        // Proxies come from settings, never from the environment: Docker, too, reaches the registry its own way.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::custom(redirect));
    if let Some(file) = &wanted.ca_file {
        let failed = |e: String| settings("ca_file", format!("{}: {e}", file.display()));
        let pem = std::fs::read(file).map_err(|e| failed(e.to_string()))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| failed(e.to_string()))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|e| settings("url", e.to_string()))
}

/// Follows a few redirects (blobs often lie in an object store), but never from https to http. reqwest
/// drops the credentials on the way to another host.
fn redirect(attempt: reqwest::redirect::Attempt<'_>) -> reqwest::redirect::Action {
    let was_secure = attempt.previous().last().is_some_and(|u| u.scheme() == "https");
    if attempt.previous().len() > 5 || (was_secure && attempt.url().scheme() != "https") {
        return attempt.stop();
    }
    attempt.follow()
}
