//! What a refusal or a broken connection means: a sentence and an exit code.

use crate::exit::{Code as Exit, Fail};
use mothball_api::v1::views::{Code, Problem};
use reqwest::Url;
use std::error::Error;

/// Longest text of an answer that is not ours which is repeated.
const FOREIGN_CHARS_MAX: usize = 200;

/// A server's address as it may be shown.
pub(super) fn shown(base: &Url) -> String {
    let mut url = base.clone();
    // Neither can fail for an http URL; if it did, the credentials would only not be taken out of a copy.
    let _ = (url.set_password(None), url.set_username(""));
    url.as_str().trim_end_matches('/').to_owned()
}

/// What a refused call means.
pub(super) fn refused(address: &str, status: u16, body: &[u8]) -> Fail {
    let Ok(problem) = serde_json::from_slice::<Problem>(body) else {
        return foreign(address, status, body);
    };
    let mut message = problem.detail;
    if let Some(field) = problem.field.filter(|field| !message.contains(field.as_str())) {
        message = format!("{field}: {message}");
    }
    if let Some(job) = problem.job.map(|job| job.to_string()).filter(|job| !message.contains(job.as_str())) {
        message = format!("{message} (job {job})");
    }
    if let (500.., Some(instance)) = (status, problem.instance) {
        message = format!("{message} (request {instance})");
    }
    let hint = problem.hint.unwrap_or_else(|| hint_of(problem.code).to_owned());
    Fail::new(exit_of(problem.code), message).hint(hint)
}

/// The exit code that a refusal means.
fn exit_of(code: Code) -> Exit {
    match code {
        Code::Unauthenticated | Code::Forbidden => Exit::NotAllowed,
        Code::Invalid
        | Code::BadRequest
        | Code::UnsupportedMediaType
        | Code::BodyTooLarge
        | Code::ProjectRequired
        | Code::MethodNotAllowed => Exit::Usage,
        Code::Unavailable => Exit::Unreachable,
        Code::NotFound
        | Code::UnknownImage
        | Code::UnknownFlavor
        | Code::UnknownMount
        | Code::Conflict
        | Code::NameTaken
        | Code::CatalogName
        | Code::Protected
        | Code::NotNow
        | Code::Quota
        | Code::NodeSilent
        | Code::SurveyTimeout
        | Code::SurveyFailed
        | Code::IdempotencyConflict
        | Code::RateLimited
        | Code::TooManyStreams
        | Code::Timeout
        | Code::NotImplemented
        | Code::Internal => Exit::Failed,
    }
}

fn hint_of(code: Code) -> &'static str {
    match code {
        Code::Unauthenticated => "set MOTHBALL_API_KEY, or sign in with `mothball login`",
        Code::Forbidden => "ask an admin of the project",
        Code::ProjectRequired => "name one with --project; `mothball projects` lists yours",
        Code::UnknownImage => "`mothball images` lists the project's images and the catalogue's names",
        Code::UnknownFlavor => "`mothball flavors` lists what there is",
        _ => "",
    }
}

/// An answer that is not from Mothball itself: a proxy's, or another server's.
fn foreign(address: &str, status: u16, body: &[u8]) -> Fail {
    let code = match status {
        401 | 403 => Exit::NotAllowed,
        502..=504 => Exit::Unreachable,
        _ => Exit::Failed,
    };
    let text: String = String::from_utf8_lossy(body).chars().take(FOREIGN_CHARS_MAX).collect();
    let text = crate::output::clean(text.lines().next().unwrap_or_default().trim());
    let words = if text.is_empty() { String::new() } else { format!(": {text}") };
    Fail::new(code, format!("{address} answered {status}{words}"))
        .hint("see whether MOTHBALL_URL names a Mothball server")
}

/// What a call that got no answer means.
pub(super) fn unreachable(address: &str, error: &reqwest::Error) -> Fail {
    let reason = if error.is_timeout() { "it did not answer in time".to_owned() } else { innermost(error) };
    Fail::new(Exit::Unreachable, format!("cannot reach {address}: {reason}"))
        .hint("see whether `mothball serve` runs there; MOTHBALL_URL or --url names the server")
}

/// The last cause: the outer ones repeat the address and say "error sending request".
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, code: &str) -> Fail {
        let body = serde_json::json!({
            "type": format!("urn:mothball:{code}"), "title": "t", "status": status, "code": code,
            "detail": "the tag is not valid", "field": "tag",
        });
        refused("http://a", status, body.to_string().as_bytes())
    }

    #[test]
    fn every_code_has_its_exit() {
        for (status, code, exit) in [
            (401, "unauthenticated", Exit::NotAllowed),
            (403, "forbidden", Exit::NotAllowed),
            (404, "not_found", Exit::Failed),
            (409, "conflict", Exit::Failed),
            (409, "protected", Exit::Failed),
            (422, "invalid", Exit::Usage),
            (422, "project_required", Exit::Usage),
            (422, "unknown_flavor", Exit::Failed),
            (503, "unavailable", Exit::Unreachable),
            (500, "internal", Exit::Failed),
        ] {
            assert_eq!(problem(status, code).code, exit, "{code}");
        }
        assert_eq!(problem(422, "invalid").message, "the tag is not valid");
        assert!(problem(401, "unauthenticated").hint.unwrap().contains("mothball login"));
    }

    #[test]
    fn answers_of_others_are_cut_and_cleaned() {
        let fail = refused("http://a", 502, "<html>\u{1b}[2J bad gateway".repeat(100).as_bytes());
        assert_eq!(fail.code, Exit::Unreachable);
        assert!(fail.message.len() < 300 && !fail.message.contains('\u{1b}'), "{}", fail.message);
        assert_eq!(refused("http://a", 403, b"").code, Exit::NotAllowed);
        assert_eq!(refused("http://a", 404, b"not here").message, "http://a answered 404: not here");
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        assert_eq!(shown(&Url::parse("http://me:geheim@a:1/x/").unwrap()), "http://a:1/x");
    }
}
