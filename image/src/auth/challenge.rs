//! Reads `WWW-Authenticate`.

use reqwest::Url;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token from this server.
    Bearer {
        /// The token server.
        realm: Url,
        /// What the token is for.
        service: Option<String>,
    },
}

/// The challenge of an answer: Bearer where there is one, or Basic, or none that is understood.
pub(super) fn read(headers: &HeaderMap) -> Option<Challenge> {
    let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
    let mut found = None;
    for text in texts {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            if let Some(bearer) = bearer(rest) {
                return Some(bearer);
            }
        } else if scheme.eq_ignore_ascii_case("basic") {
            found = Some(Challenge::Basic);
        }
    }
    found
}

fn bearer(parameters: &str) -> Option<Challenge> {
    let parameters = split(parameters);
    let get = |name: &str| {
        parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
    };
    let realm = Url::parse(&get("realm")?).ok().filter(|u| matches!(u.scheme(), "http" | "https"))?;
    Some(Challenge::Bearer { realm, service: get("service") })
}

/// `a="b, c",d=e` as pairs. A quoted value may hold commas (scopes do) and escaped quotes.
fn split(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| *c == ',' || c.is_whitespace()).is_some() {}
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && *c != ',') {
            name.push(c);
        }
        if chars.next_if_eq(&'=').is_none() {
            if name.is_empty() {
                return pairs;
            }
            continue;
        }
        let mut value = String::new();
        if chars.next_if_eq(&'"').is_some() {
            while let Some(c) = chars.next() {
                match c {
                    '"' => break,
                    '\\' => value.extend(chars.next()),
                    c => value.push(c),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != ',') {
                value.push(c);
            }
        }
        pairs.push((name.trim().to_owned(), value.trim().to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn challenge(lines: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, line.parse().unwrap());
        }
        read(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.parse().unwrap(), service: service.map(str::to_owned) }
    }

    #[test]
    fn challenges_are_read() {
        let table: [(&[&str], Option<Challenge>); 8] = [
            (&[], None),
            (&["Basic realm=\"basic-realm\""], Some(Challenge::Basic)),
            (&["basic"], Some(Challenge::Basic)),
            (
                &["Bearer realm=\"https://a/token\",service=\"r\",scope=\"repository:a/b:pull,push\""],
                Some(bearer("https://a/token", Some("r"))),
            ),
            (&["bearer service=r, realm=https://a/token"], Some(bearer("https://a/token", Some("r")))),
            (&["Basic realm=x", "Bearer realm=\"https://a/t\""], Some(bearer("https://a/t", None))),
            (&["Bearer realm=\"file:///etc/passwd\""], None),
            (&["Negotiate"], None),
        ];
        for (lines, want) in table {
            assert_eq!(challenge(lines), want, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_hangs_or_panics(text in "[ -~]{0,120}") {
            let _ = challenge(&[text.as_str()]);
        }
    }
}
