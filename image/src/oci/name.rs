//! Names of repositories and what may stand after them.

use crate::error::RegistryError;
use mothball_domain::image::Digest;
use mothball_domain::name::{ImageName, Tag};

/// Longest repository name that registries take.
const REPOSITORY_CHARS_MAX: usize = 255;

/// Checks a repository's name: `project/name`, each part by the rule of the OCI distribution
/// specification. A name that breaks the rule would become another URL.
pub fn check_repository(repo: &str) -> Result<(), RegistryError> {
    let good = repo.len() <= REPOSITORY_CHARS_MAX && repo.split('/').all(|part| ImageName::new(part).is_ok());
    if good {
        return Ok(());
    }
    Err(RegistryError::Name {
        kind: "repository name",
        text: repo.chars().take(64).collect(),
        rule: "parts of lower-case letters and digits, with single '.', '_', '__' or '-' between them, \
               joined by '/', at most 255 characters",
    })
}

/// Checks what follows a repository: a tag, or a digest, which is then returned.
pub fn check_reference(reference: &str) -> Result<Option<Digest>, RegistryError> {
    if let Ok(digest) = Digest::new(reference) {
        return Ok(Some(digest));
    }
    if Tag::new(reference).is_ok() {
        return Ok(None);
    }
    Err(RegistryError::Name {
        kind: "tag or digest",
        text: reference.chars().take(64).collect(),
        rule: Tag::RULE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_keep_the_rule_of_the_specification() {
        for good in ["a", "a/b", "project/tensorrt-19.08-py3", "a/b/c", "a__b/c--d"] {
            assert!(check_repository(good).is_ok(), "{good}");
        }
        let long = format!("{}/{}", "a".repeat(128), "b".repeat(127));
        for bad in ["", "/", "a/", "/a", "A/b", "a//b", "a/../b", "a/b?c", "a b", "a/b%2f", "-a/b", &long] {
            assert!(check_repository(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reference_is_a_tag_or_a_digest() {
        assert_eq!(check_reference("v1"), Ok(None));
        let digest = Digest::from_sha256([1; 32]);
        assert_eq!(check_reference(digest.as_str()), Ok(Some(digest)));
        for bad in ["", "a/b", "sha256:12", "../x", "a?b"] {
            assert!(check_reference(bad).is_err(), "{bad}");
        }
    }
}
