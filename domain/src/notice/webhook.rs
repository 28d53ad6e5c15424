//! Webhooks: addresses of programs that are told of what happens in a project.

use super::Event;
use super::reach::Reach;
use crate::id::WebhookId;
use crate::name::{ProjectName, UserName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

/// A program's address, and what it is told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// The project that it is told of.
    pub project: ProjectName,
    /// Who made it.
    pub user: UserName,
    /// Where to: http or https, without credentials.
    pub url: String,
    /// What of; all of it where nothing was chosen.
    pub events: BTreeSet<Event>,
    /// Whether anything is sent.
    pub enabled: bool,
    /// Why it was switched off without anybody asking.
    #[serde(default)]
    pub off_because: Option<String>,
    /// What its messages are signed with.
    pub secret: SigningSecret,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Most webhooks of one project.
pub const WEBHOOKS_MAX: usize = 20;
/// Longest address, in bytes.
pub const URL_BYTES_MAX: usize = 2048;

/// Checks an address that somebody gives, and writes it as it will be called. What a name leads to is checked when it is
/// called; addresses as numbers are checked here as well, so that whoever makes the webhook learns of it.
pub fn check_url(text: &str, reach: &Reach) -> Result<String, String> {
    let rule = format!(
        "url is an http or https address in at most {URL_BYTES_MAX} bytes, without a user, a password or a fragment"
    );
    let url = url::Url::parse(text).map_err(|_| rule.clone())?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !plain || text.len() > URL_BYTES_MAX {
        return Err(rule);
    }
    let address = match url.host() {
        Some(url::Host::Ipv4(v4)) => Some(IpAddr::V4(v4)),
        Some(url::Host::Ipv6(v6)) => Some(IpAddr::V6(v6)),
        Some(url::Host::Domain(_)) => None,
        None => return Err(rule),
    };
    if address.is_some_and(|address| !reach.allows(address)) {
        let why = "url leads to an address that is not on the public internet; the operator can allow its network with \
                   notifications.allow_networks";
        return Err(why.to_owned());
    }
    Ok(url.into())
}

impl Webhook {
    /// Whether it is told of `event`.
    pub fn wants(&self, event: Event) -> bool {
        self.enabled && (self.events.is_empty() || self.events.contains(&event))
    }
}

/// The bytes that messages are signed with, as the Standard Webhooks specification has them: shared with the receiver,
/// shown once, never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SigningSecret(String);

impl SigningSecret {
    /// What the written form begins with.
    pub const PREFIX: &'static str = "whsec_";

    /// The secret of these random bytes.
    pub fn of(random: [u8; 32]) -> Self {
        use base64::Engine;
        Self(format!("{}{}", Self::PREFIX, base64::engine::general_purpose::STANDARD.encode(random)))
    }

    /// The written form, for whoever made the webhook.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `v1,` and the HMAC-SHA256 of id, time and body, in base64: the value of the header `webhook-signature`.
    pub fn sign(&self, id: &str, second: i64, body: &[u8]) -> String {
        use base64::Engine;
        use hmac::{Hmac, KeyInit, Mac};
        let base64 = base64::engine::general_purpose::STANDARD;
        // What was not written by `of` cannot be decoded, and its receiver sees a signature that is not right.
        let key = base64.decode(self.0.trim_start_matches(Self::PREFIX)).unwrap_or_default();
        let Ok(mut mac) = Hmac::<sha2::Sha256>::new_from_slice(&key) else {
            // HMAC takes keys of any length.
            return String::new();
        };
        mac.update(format!("{id}.{second}.").as_bytes());
        mac.update(body);
        format!("v1,{}", base64.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification's own libraries.
    #[test]
    fn signs_as_the_specification_does() {
        let secret = SigningSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let signature =
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn addresses_that_may_be_called() {
        let lab = Reach { allowed: vec!["10.0.0.0/8".parse().unwrap()] };
        for good in ["https://example.org/hook?token=1", "http://hooks.example:8080/a", "https://10.1.2.3/"] {
            assert_eq!(check_url(good, &lab).as_deref(), Ok(good));
        }
        assert_eq!(check_url("https://EXAMPLE.org", &lab).as_deref(), Ok("https://example.org/"));
        let long = format!("https://example.org/{}", "a".repeat(URL_BYTES_MAX));
        for bad in
            ["", "example.org", "ftp://example.org/", "https://u:p@example.org/", "https://x.y/#a", &long]
        {
            assert!(check_url(bad, &lab).unwrap_err().starts_with("url is"), "{bad:?}");
        }
        // However the loopback is written.
        for closed in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]/",
            "http://169.254.169.254/",
        ] {
            assert!(check_url(closed, &lab).unwrap_err().contains("allow_networks"), "{closed}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = SigningSecret::of([7; 32]);
        assert!(secret.expose().starts_with("whsec_BwcH"));
        assert_eq!(format!("{secret:?}"), "SigningSecret(***)");
    }
}
