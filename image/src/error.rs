//! What can go wrong with a registry, and what it means for a job.

use mothball_domain::failure::{Failure, FailureClass};
use std::time::Duration;

/// What can go wrong with a registry. `what` is always a verb phrase ("read manifest a/b:tag"); no
/// variant ever holds a password or a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// A setting cannot be used.
    #[error("the registry setting \"{setting}\" cannot be used: {reason}")]
    Settings {
        /// The setting's name.
        setting: &'static str,
        /// Why not.
        reason: String,
    },
    /// A text is not a repository name or not a tag or digest.
    #[error("{text:?} is not a {kind}: {rule}")]
    Name {
        /// What was wanted.
        kind: &'static str,
        /// The text, cut.
        text: String,
        /// The rule.
        rule: &'static str,
    },
    /// The password file cannot be read.
    #[error("cannot read the registry's password file {path}: {reason}")]
    PasswordFile {
        /// The file.
        path: String,
        /// Why not.
        reason: String,
    },
    /// The registry (or its token server) refuses the credentials, also after they were read anew.
    #[error("cannot {what}: the registry refuses {user} ({detail})")]
    Auth {
        /// What was tried.
        what: String,
        /// As whom: `user "x"` or "access without credentials".
        user: String,
        /// The registry's words.
        detail: String,
    },
    /// What was asked for does not exist.
    #[error("cannot {what}: the registry does not have it")]
    NotFound {
        /// What was tried.
        what: String,
    },
    /// The registry, or a proxy in front of it, takes nothing this large.
    #[error("cannot {what}: it is larger than the registry takes ({detail})")]
    TooLarge {
        /// What was tried.
        what: String,
        /// The registry's words.
        detail: String,
    },
    /// A quota of the registry is used up.
    #[error("cannot {what}: a quota of the registry is used up ({detail})")]
    Quota {
        /// What was tried.
        what: String,
        /// The registry's words.
        detail: String,
    },
    /// The registry's disk is full.
    #[error("cannot {what}: the registry's disk is full ({detail})")]
    Disk {
        /// What was tried.
        what: String,
        /// The registry's words.
        detail: String,
    },
    /// The registry broke (5xx), also when asked again.
    #[error("cannot {what}: the registry answers {detail}")]
    Server {
        /// What was tried.
        what: String,
        /// The registry's words.
        detail: String,
    },
    /// The registry asks for fewer requests (429) for longer than a call waits.
    #[error("cannot {what}: the registry asks to wait ({detail})")]
    Busy {
        /// What was tried.
        what: String,
        /// The registry's words.
        detail: String,
    },
    /// The registry refuses the request itself (another 4xx).
    #[error("cannot {what}: the registry refuses it with {detail}")]
    Refused {
        /// What was tried.
        what: String,
        /// The registry's words.
        detail: String,
    },
    /// The registry cannot be reached, or the connection broke before there was an answer.
    #[error("cannot {what}: the registry cannot be reached ({detail})")]
    Network {
        /// What was tried.
        what: String,
        /// The connection's words.
        detail: String,
    },
    /// The connection broke in the middle of an answer.
    #[error("cannot {what}: the registry's answer broke off ({detail})")]
    Cut {
        /// What was tried.
        what: String,
        /// The connection's words.
        detail: String,
    },
    /// There was no answer within the limit.
    #[error("cannot {what}: no answer from the registry within {} s", .limit.as_secs())]
    Timeout {
        /// What was tried.
        what: String,
        /// The limit.
        limit: Duration,
    },
    /// The bytes are not the ones that the digest names.
    #[error("cannot {what}: the bytes hash to {got}, not to {wanted}")]
    Digest {
        /// What was tried.
        what: String,
        /// The digest that was asked for or computed here.
        wanted: String,
        /// The digest that was found or that the registry names.
        got: String,
    },
    /// The registry's answer makes no sense.
    #[error("cannot {what}: the registry's answer is not understood ({detail})")]
    Protocol {
        /// What was tried.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A list of several platforms stands where one image was expected.
    #[error("cannot {what}: it is an index of several images, not one image")]
    Index {
        /// What was tried.
        what: String,
    },
    /// A list is longer than this client reads.
    #[error("cannot {what}: there are more than {max}")]
    TooMany {
        /// What was tried.
        what: String,
        /// The bound.
        max: usize,
    },
    /// A manifest was refused because the registry lacks blobs that it names.
    #[error("cannot {what}: the registry does not have blobs that it names ({detail})")]
    BlobsUnknown {
        /// What was tried.
        what: String,
        /// The registry's words.
        detail: String,
    },
    /// An upload is gone at the registry, or holds other bytes than were sent: it starts from byte 0.
    #[error("cannot {what}: the registry has lost the upload ({detail})")]
    UploadLost {
        /// What was tried.
        what: String,
        /// The registry's words.
        detail: String,
    },
    /// An image is not whole in the registry.
    #[error("the image is not proven to be in the registry: {}", list(missing))]
    Unproven {
        /// What is missing or cannot be read back, each with its digest.
        missing: Vec<String>,
    },
}

/// Most missing parts that a sentence names.
const NAMED_MAX: usize = 4;

fn list(missing: &[String]) -> String {
    use std::fmt::Write as _;
    let mut text = missing.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("; ");
    if missing.len() > NAMED_MAX {
        let _ = write!(text, "; and {} more", missing.len() - NAMED_MAX);
    }
    text
}

impl RegistryError {
    /// What a job that ends with this error shows its owner.
    pub fn failure(&self) -> Failure {
        use FailureClass as Class;
        let message = self.to_string();
        match self {
            Self::Settings { .. } | Self::TooMany { .. } | Self::Refused { .. } | Self::Index { .. } => {
                Failure::permanent(Class::Registry, message)
            }
            Self::Name { .. } => Failure::permanent(Class::Internal, message),
            Self::PasswordFile { .. } | Self::Auth { .. } => Failure::permanent(Class::Auth, message),
            Self::NotFound { .. } => Failure::permanent(Class::Gone, message),
            Self::TooLarge { .. } => Failure::permanent(Class::TooLarge, message),
            Self::Quota { .. } => Failure::permanent(Class::Quota, message),
            Self::Disk { .. } => Failure::transient(Class::Registry, message)
                .with_hint("Ask the operator to free disk space at the registry; then retry the job."),
            Self::Network { .. } | Self::Cut { .. } => Failure::transient(Class::Network, message),
            Self::Timeout { .. } => Failure::transient(Class::Timeout, message),
            Self::Server { .. }
            | Self::Busy { .. }
            | Self::Digest { .. }
            | Self::Protocol { .. }
            | Self::BlobsUnknown { .. }
            | Self::UploadLost { .. }
            | Self::Unproven { .. } => Failure::transient(Class::Registry, message),
        }
    }

    /// Whether the same request may succeed a moment later: what a call repeats by itself.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Server { .. }
                | Self::Busy { .. }
                | Self::Network { .. }
                | Self::Cut { .. }
                | Self::Timeout { .. }
        )
    }

    /// Whether an upload must start again from byte 0.
    pub fn is_upload_lost(&self) -> bool {
        matches!(self, Self::UploadLost { .. } | Self::Digest { .. })
    }
}

/// Turns an error of the connection into ours. The URL is dropped from the text: a redirect's may
/// carry a signature, a token server's a name.
pub(crate) fn from_reqwest(what: &str, error: reqwest::Error, limit: Duration) -> RegistryError {
    let what = what.to_owned();
    if error.is_timeout() {
        return RegistryError::Timeout { what, limit };
    }
    let cut = error.is_body() || error.is_decode();
    let detail = chain(&error.without_url());
    if cut { RegistryError::Cut { what, detail } } else { RegistryError::Network { what, detail } }
}

/// The words of an error and of all its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what() -> String {
        "read blob x".to_owned()
    }

    #[test]
    fn every_error_has_its_class() {
        use FailureClass as C;
        let detail = String::new;
        let table = [
            (
                RegistryError::Auth { what: what(), user: "user \"a\"".into(), detail: detail() },
                C::Auth,
                true,
            ),
            (RegistryError::NotFound { what: what() }, C::Gone, true),
            (RegistryError::TooLarge { what: what(), detail: detail() }, C::TooLarge, true),
            (RegistryError::Quota { what: what(), detail: detail() }, C::Quota, true),
            (RegistryError::Disk { what: what(), detail: detail() }, C::Registry, false),
            (RegistryError::Server { what: what(), detail: detail() }, C::Registry, false),
            (RegistryError::Network { what: what(), detail: detail() }, C::Network, false),
            (RegistryError::Timeout { what: what(), limit: Duration::from_secs(3) }, C::Timeout, false),
            (RegistryError::Unproven { missing: vec!["layer x".into()] }, C::Registry, false),
        ];
        for (error, class, permanent) in table {
            let failure = error.failure();
            assert_eq!((failure.class, failure.is_permanent()), (class, permanent), "{error}");
        }
    }

    #[test]
    fn a_long_list_of_missing_parts_stays_a_sentence() {
        let error = RegistryError::Unproven { missing: (0..50).map(|i| format!("layer {i}")).collect() };
        let text = error.to_string();
        assert!(text.contains("layer 0") && text.ends_with("and 46 more"), "{text}");
    }
}
