//! What a registry answered, and what its refusals mean.

use crate::error::RegistryError;
use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use std::time::Duration;

/// An answer. The body is read already, except when the call asked for a stream and the registry agreed.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) stream: Option<Response>,
}

impl Answer {
    pub(crate) fn header(&self, name: impl Into<HeaderName>) -> Option<&str> {
        self.headers.get(name.into()).and_then(|v| v.to_str().ok())
    }

    pub(crate) fn named(&self, name: &'static str) -> Option<&str> {
        self.header(HeaderName::from_static(name))
    }

    /// Whether the registry's error codes hold this one.
    pub(crate) fn has_code(&self, code: &str) -> bool {
        errors(&self.body).iter().any(|e| e.code == code)
    }

    /// The refusal as an error; `user` is as whom the registry was asked.
    pub(crate) fn refusal(&self, what: &str, user: &str) -> RegistryError {
        let what = what.to_owned();
        let detail = detail(self.status, &self.body);
        let text = String::from_utf8_lossy(&self.body).to_ascii_lowercase();
        // docker-registry hands the kernel's error number through: 28 is ENOSPC, 122 EDQUOT.
        let quota = ["quota", "will exceed the configured upper limit", "storage limit", "\"err\":122"];
        if quota.iter().any(|q| text.contains(q)) {
            return RegistryError::Quota { what, detail };
        }
        let disk = self.status == StatusCode::INSUFFICIENT_STORAGE
            || text.contains("no space left")
            || text.contains("\"err\":28,")
            || text.contains("\"err\":28}");
        if disk {
            return RegistryError::Disk { what, detail };
        }
        match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                RegistryError::Auth { what, user: user.to_owned(), detail }
            }
            StatusCode::NOT_FOUND => RegistryError::NotFound { what },
            StatusCode::PAYLOAD_TOO_LARGE => RegistryError::TooLarge { what, detail },
            StatusCode::TOO_MANY_REQUESTS => RegistryError::Busy { what, detail },
            status if status.is_server_error() => RegistryError::Server { what, detail },
            _ => RegistryError::Refused { what, detail },
        }
    }

    /// How long the registry asks to wait, when it does.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let text = self.header(reqwest::header::RETRY_AFTER)?.trim();
        if let Ok(seconds) = text.parse::<u64>() {
            return Some(Duration::from_secs(seconds));
        }
        let date = jiff::fmt::rfc2822::parse(text).ok()?;
        let seconds = date.timestamp().as_second() - jiff::Timestamp::now().as_second();
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }
}

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: Option<String>,
}

fn errors(body: &[u8]) -> Vec<OneError> {
    serde_json::from_slice::<Errors>(body).map(|e| e.errors).unwrap_or_default()
}

/// The status and the registry's own words, cut, on one line. A body that is no list of errors (a
/// proxy's page) is left out: it says nothing to a reader.
fn detail(status: StatusCode, body: &[u8]) -> String {
    let mut text = status.to_string();
    for error in errors(body).iter().take(3) {
        text.push_str(", ");
        text.push_str(&error.code);
        if let Some(message) = error.message.as_deref().filter(|m| !m.is_empty()) {
            text.push_str(": ");
            text.push_str(message);
        }
    }
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mothball_domain::failure::FailureClass as Class;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            stream: None,
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        let errno = |n: u32| {
            format!(
                r#"{{"errors":[{{"code":"UNKNOWN","message":"unknown error","detail":{{"DriverName":"filesystem","Enclosed":{{"Op":"write","Err":{n}}}}}}}]}}"#
            )
        };
        let denied = |m: &str| format!(r#"{{"errors":[{{"code":"DENIED","message":"{m}"}}]}}"#);
        for (status, body, class, permanent) in [
            (401, String::new(), Class::Auth, true),
            (403, denied("requested access to the resource is denied"), Class::Auth, true),
            (403, denied("adding 1 GiB will exceed the configured upper limit of 5 GiB"), Class::Quota, true),
            (412, denied("project quota exceeded"), Class::Quota, true),
            (404, String::new(), Class::Gone, true),
            (413, "<html>".to_owned(), Class::TooLarge, true),
            (400, String::new(), Class::Registry, true),
            (429, String::new(), Class::Registry, false),
            (500, errno(5), Class::Registry, false),
            (500, errno(28), Class::Registry, false),
            (500, errno(122), Class::Quota, true),
            (507, String::new(), Class::Registry, false),
        ] {
            let failure = answer(status, &body).refusal("do it", "user \"a\"").failure();
            assert_eq!((failure.class, failure.is_permanent()), (class, permanent), "{status} {body}");
        }
        for full in [answer(500, &errno(28)), answer(507, ""), answer(500, "write: no space left on device")]
        {
            let failure = full.refusal("do it", "").failure();
            assert!(failure.message.contains("disk is full") && failure.hint.contains("disk"), "{failure}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let asked = |text: &str| {
            let mut answer = answer(429, "");
            answer.headers.insert("retry-after", text.parse().unwrap());
            answer.retry_after()
        };
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert!(asked("Wed, 21 Oct 2099 07:28:00 GMT").unwrap() > Duration::from_secs(1_000_000));
        assert_eq!(asked("soon"), None);
    }

    #[test]
    fn a_detail_is_one_short_line() {
        let body = r#"{"errors":[{"code":"A\nB","message":"x\u0000y"}]}"#;
        let text = detail(StatusCode::BAD_REQUEST, body.as_bytes());
        assert_eq!(text, "400 Bad Request, A B: x y");
        assert_eq!(detail(StatusCode::BAD_GATEWAY, b"<html>huge"), "502 Bad Gateway");
    }
}
