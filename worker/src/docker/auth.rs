//! Credentials of a registry, on their way through Docker Engine.

use super::DockerError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use hyper::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

/// User name and password of a registry.
#[derive(Debug, Clone)]
pub struct RegistryAuth {
    /// The user.
    pub username: String,
    /// The password, or a token.
    pub password: SecretString,
    /// The registry's `host:port`.
    pub server: String,
}

/// Shorter texts than this are not blotted out of messages: they would tear holes into ordinary words, and as a
/// password they are none.
const BLOT_CHARS_MIN: usize = 4;

/// The value of `X-Registry-Auth`. URL-safe base64: Docker Engine refuses the standard alphabet, and bollard sends it.
/// Without credentials it is an empty object, because the header itself is required.
pub(super) fn header(auth: Option<&RegistryAuth>) -> Result<HeaderValue, DockerError> {
    let json = match auth {
        None => serde_json::json!({}),
        Some(a) => serde_json::json!({
            "username": a.username,
            "password": a.password.expose_secret(),
            "serveraddress": a.server,
        }),
    };
    let mut value = HeaderValue::try_from(URL_SAFE.encode(json.to_string())).map_err(|_| {
        DockerError::Answer { what: "encode credentials", reason: "not a header value".into() }
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Takes the password out of a text that came back from outside, should it stand there.
pub(super) fn blot(text: &str, auth: Option<&RegistryAuth>) -> String {
    match auth.map(|a| a.password.expose_secret()) {
        Some(password) if password.chars().count() >= BLOT_CHARS_MIN => text.replace(password, "***"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(password: &str) -> RegistryAuth {
        RegistryAuth { username: "user".into(), password: password.into(), server: "r:5000".into() }
    }

    #[test]
    fn the_header_is_url_safe_and_is_not_shown() {
        let value = header(Some(&auth("pw~?>x~~??"))).unwrap();
        let text = value.to_str().unwrap();
        assert!(text.contains(['-', '_']) && !text.contains(['+', '/']), "{text}");
        assert_eq!(format!("{value:?}"), "Sensitive");
        let back: serde_json::Value = serde_json::from_slice(&URL_SAFE.decode(text).unwrap()).unwrap();
        assert_eq!(back["password"], "pw~?>x~~??");
        assert_eq!(header(None).unwrap().to_str().unwrap(), "e30=");
    }

    #[test]
    fn a_password_does_not_come_back_in_a_message() {
        assert_eq!(blot("refused hunter22 here", Some(&auth("hunter22"))), "refused *** here");
        assert_eq!(blot("a message", Some(&auth("a"))), "a message");
        assert!(!format!("{:?}", auth("hunter22")).contains("hunter22"));
    }
}
