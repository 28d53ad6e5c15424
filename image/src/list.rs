//! Tags and repositories, page by page.

use crate::client::Registry;
use crate::error::RegistryError;
use reqwest::header::LINK;
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

/// Entries asked for at once.
const PAGE: &str = "n=1000";
/// Longest page: registries that do not page send a repository's tags at once.
const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most pages of one list.
const PAGES_MAX: usize = 1000;
/// Most tags of one repository. A list cut short would be read as "no other tag needs it".
const TAGS_MAX: usize = 100_000;

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    repositories: Option<Vec<String>>,
}

impl Registry {
    /// All tags of a repository, Mothball's own included; none when there is no such repository.
    pub async fn tags(&self, repo: &str) -> Result<Vec<String>, RegistryError> {
        let url = self.repo_url(repo, &format!("tags/list?{PAGE}"))?;
        let scope = format!("repository:{repo}:pull");
        self.list(url, &scope, format!("list the tags of {repo}"), TAGS_MAX, |page| page.tags).await
    }

    /// All repositories, at most `max`: an error when there are more.
    pub async fn repositories(&self, max: usize) -> Result<Vec<String>, RegistryError> {
        let url = self.url(&format!("v2/_catalog?{PAGE}"))?;
        let what = "list the registry's repositories".to_owned();
        self.list(url, "registry:catalog:*", what, max, |page| page.repositories).await
    }

    async fn list(
        &self,
        first: Url,
        scope: &str,
        what: String,
        max: usize,
        entries: fn(Page) -> Option<Vec<String>>,
    ) -> Result<Vec<String>, RegistryError> {
        let mut all = Vec::new();
        let mut next = Some(first);
        for _ in 0..PAGES_MAX {
            let Some(url) = next.take() else { return Ok(all) };
            let mut call = self.call(Method::GET, url.clone(), what.clone());
            call.scopes.push(scope.to_owned());
            call.body_max = PAGE_BYTES_MAX;
            let answer = self.send(&call).await?;
            match answer.status {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => return Ok(all),
                _ => return Err(self.refusal(&call, &answer)),
            }
            let page: Page = serde_json::from_slice(&answer.body)
                .map_err(|e| RegistryError::Protocol { what: what.clone(), detail: e.to_string() })?;
            all.extend(entries(page).unwrap_or_default());
            if all.len() > max {
                break;
            }
            if let Some(link) = answer.header(LINK).and_then(next_of) {
                next = Some(self.follow(&what, link)?).filter(|n| *n != url);
            }
        }
        if all.len() <= max && next.is_none() {
            return Ok(all);
        }
        Err(RegistryError::TooMany { what, max })
    }
}

/// The target of `<target>; rel="next"`.
fn next_of(header: &str) -> Option<&str> {
    header.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let next = parameters.split(';').any(|p| matches!(p.trim(), "rel=\"next\"" | "rel=next"));
        next.then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::next_of;

    #[test]
    fn the_next_page_is_found() {
        for (header, want) in [
            ("</v2/_catalog?last=b&n=2>; rel=\"next\"", Some("/v2/_catalog?last=b&n=2")),
            ("<https://a/x>; rel=prev, <https://a/y>; rel=next", Some("https://a/y")),
            ("</x>; rel=\"prev\"", None),
            ("/x; rel=\"next\"", None),
            ("", None),
        ] {
            assert_eq!(next_of(header), want, "{header}");
        }
    }
}
