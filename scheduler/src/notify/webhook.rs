//! Calling a webhook: signed as the Standard Webhooks specification says, and only where the operator lets it go. Names are
//! resolved here and the addresses checked before a connection is made, so that a name cannot lead elsewhere than it did
//! when it was checked; redirects are not followed, and no proxy is asked, for the same reason.

use jiff::Timestamp;
use mothball_domain::notice::delivery::Ended;
use mothball_domain::notice::reach::Reach;
use mothball_domain::notice::webhook::Webhook;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Why webhooks cannot be called at all.
#[derive(Debug, thiserror::Error)]
#[error("webhooks cannot be called: {0}")]
pub struct WebhookSetupError(#[from] reqwest::Error);

/// Calls webhooks.
#[derive(Debug)]
pub struct WebhookSender {
    client: Client,
    reach: Reach,
}

/// How a call ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// As any try.
    Ended(Ended),
    /// The receiver wants nothing more.
    Gone,
}

impl WebhookSender {
    /// Makes one that reaches what `reach` allows; each call takes `timeout` at most.
    pub fn new(reach: Reach, timeout: Duration, version: &str) -> Result<Self, WebhookSetupError> {
        let client = Client::builder()
            .dns_resolver(Allowed(reach.clone()))
            .redirect(Policy::none())
            .no_proxy()
            .timeout(timeout)
            .connect_timeout(timeout)
            .user_agent(format!("Mothball/{version}"))
            .build()?;
        Ok(Self { client, reach })
    }

    /// Sends `body` as the message `id`, signed as of `now`: receivers refuse what is old.
    pub(super) async fn send(&self, webhook: &Webhook, id: &str, now: Timestamp, body: Vec<u8>) -> Answer {
        let Ok(url) = Url::parse(&webhook.url) else {
            return Answer::Ended(Ended::Never("its address is no URL any more".to_owned()));
        };
        // An address as a name is never resolved, so it is checked here.
        let literal = url.host_str().and_then(|h| h.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        if literal.is_some_and(|address| !self.reach.allows(address)) {
            return Answer::Ended(Ended::Never(NOT_ALLOWED.to_owned()));
        }
        let second = now.as_second();
        let signature = webhook.secret.sign(id, second, &body);
        let request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", second)
            .header("webhook-signature", signature)
            .body(body);
        match request.send().await {
            Ok(response) => judge(response.status()),
            Err(error) => Answer::Ended(Ended::Again(reason(&error))),
        }
    }
}

/// Any 2xx means that it arrived. A receiver that is wrongly set up may be mended: all else is tried again.
fn judge(status: StatusCode) -> Answer {
    if status == StatusCode::GONE {
        return Answer::Gone;
    }
    let words = status.to_string();
    Answer::Ended(if status.is_success() { Ended::Arrived(words) } else { Ended::Again(words) })
}

/// What a webhook's log says where the address may not be reached.
const NOT_ALLOWED: &str =
    "its address is not on the public internet; the operator can allow it with notifications.allow_networks";

/// The innermost reason; the outer ones repeat the URL, in which a token may stand.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    if std::ptr::eq(innermost, std::ptr::from_ref(error)) {
        return "the request failed".to_owned();
    }
    innermost.to_string()
}

/// Resolves names to those of their addresses that may be reached.
struct Allowed(Reach);

impl Resolve for Allowed {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> = found.into_iter().filter(|a| reach.allows(a.ip())).collect();
            if allowed.is_empty() {
                return Err(NOT_ALLOWED.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        for (status, answer) in [
            (200, Answer::Ended(Ended::Arrived("200 OK".into()))),
            (204, Answer::Ended(Ended::Arrived("204 No Content".into()))),
            (302, Answer::Ended(Ended::Again("302 Found".into()))),
            (404, Answer::Ended(Ended::Again("404 Not Found".into()))),
            (503, Answer::Ended(Ended::Again("503 Service Unavailable".into()))),
            (410, Answer::Gone),
        ] {
            assert_eq!(judge(StatusCode::from_u16(status).unwrap()), answer);
        }
    }

    #[tokio::test]
    async fn a_name_leads_only_where_addresses_may() {
        let lookup = |reach: Reach| async move { Allowed(reach).resolve("localhost".parse().unwrap()).await };
        let refused = lookup(Reach::default()).await.err().unwrap();
        assert!(refused.to_string().contains("allow_networks"), "{refused}");
        let allowed = Reach { allowed: vec!["127.0.0.0/8".parse().unwrap()] };
        let found: Vec<SocketAddr> = lookup(allowed).await.unwrap().collect();
        assert!(!found.is_empty() && found.iter().all(|a| a.ip().is_loopback() && a.is_ipv4()), "{found:?}");
    }
}
