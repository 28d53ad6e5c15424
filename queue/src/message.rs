//! What travels: a job's id, and nothing else that matters.

use mothball_domain::id::JobId;
use serde::{Deserialize, Serialize};

/// The kind of message, in its `type` property.
pub(crate) const KIND: &str = "job.v1";
/// The version that this code writes and reads.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Body {
    v: u32,
    job: JobId,
}

/// The body of a wake-up: `{"v":1,"job":"<uuid>"}`.
pub(crate) fn encode(job: JobId) -> Vec<u8> {
    // A uuid is hexadecimal digits and dashes: nothing in it needs escaping, and nothing can fail.
    format!(r#"{{"v":{VERSION},"job":"{job}"}}"#).into_bytes()
}

/// Why a body is not a wake-up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("not a wake-up: {0}")]
    Json(#[from] serde_json::Error),
    #[error("version {0} of a wake-up is not known")]
    Version(u32),
}

/// Reads a body. Unknown fields are allowed, so that a later version may add some.
pub(crate) fn decode(body: &[u8]) -> Result<JobId, BodyError> {
    let body: Body = serde_json::from_slice(body)?;
    if body.v == VERSION { Ok(body.job) } else { Err(BodyError::Version(body.v)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let job = JobId(uuid::Uuid::from_u128(7));
        assert_eq!(encode(job), br#"{"v":1,"job":"00000000-0000-0000-0000-000000000007"}"#);
        assert_eq!(decode(&encode(job)).unwrap(), job);
        let more = br#"{"v":1,"job":"00000000-0000-0000-0000-000000000007","later":[]}"#;
        assert_eq!(decode(more).unwrap(), job);
    }

    #[test]
    fn anything_else_is_an_error() {
        for bad in [
            "",
            "{}",
            "null",
            r#"{"v":1}"#,
            r#"{"v":1,"job":"x"}"#,
            r#"{"v":2,"job":"00000000-0000-0000-0000-000000000007"}"#,
        ] {
            assert!(decode(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(decode(&[0xff, 0xfe]).is_err());
    }
}
