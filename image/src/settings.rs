//! Where the registry is, and as whom it is used.

use crate::error::RegistryError;
use reqwest::Url;
use secrecy::SecretString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the registry is, as whom it is used, and how long is waited for it.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// `http://host:port` or `https://host[:port]`, without path and without credentials.
    pub url: String,
    /// As whom.
    pub credentials: Credentials,
    /// Longest wait for a small answer, its body included; large bodies get more by their size.
    pub timeout: Duration,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest silence in the middle of a blob that is being read.
    pub stall_timeout: Duration,
    /// Longest wait for the end of an upload: a registry hashes or moves the whole blob in silence.
    pub finish_timeout: Duration,
    /// Longest `Retry-After` that a call waits for; when the registry asks for more the call fails.
    pub retry_after_max: Duration,
    /// Certificates (PEM) to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

impl RegistrySettings {
    /// Settings with the usual limits.
    pub fn new(url: impl Into<String>, credentials: Credentials) -> Self {
        Self {
            url: url.into(),
            credentials,
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_mins(1),
            finish_timeout: Duration::from_mins(10),
            retry_after_max: Duration::from_secs(30),
            ca_file: None,
        }
    }
}

/// As whom a registry is used.
#[derive(Debug, Clone, Default)]
pub enum Credentials {
    /// Without a name.
    #[default]
    Anonymous,
    /// With a name and a password.
    Basic {
        /// The user's name.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// With a name and a password that stands in a file, read again when the registry refuses it.
    File {
        /// The user's name.
        username: String,
        /// The file that holds the password; white space at its end does not count.
        password_file: PathBuf,
    },
}

impl Credentials {
    /// The user's name, where there is one.
    pub fn username(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::Basic { username, .. } | Self::File { username, .. } => Some(username),
        }
    }

    /// As whom, in words for an error.
    pub(crate) fn who(&self) -> String {
        self.username().map_or_else(|| "access without credentials".to_owned(), |u| format!("user {u:?}"))
    }

    /// The password as it is now.
    pub(crate) fn password(&self) -> Result<Option<SecretString>, RegistryError> {
        match self {
            Self::Anonymous => Ok(None),
            Self::Basic { password, .. } => Ok(Some(password.clone())),
            Self::File { password_file, .. } => read_password(password_file).map(Some),
        }
    }

    fn check(&self) -> Result<(), RegistryError> {
        if self.username().is_some_and(|u| u.is_empty() || u.contains(':') || u.contains(char::is_control)) {
            return Err(settings("username", "it is empty, or holds ':' or a control character"));
        }
        Ok(())
    }
}

/// Longest password file, in bytes.
const PASSWORD_BYTES_MAX: u64 = 64 * 1024;

fn read_password(path: &Path) -> Result<SecretString, RegistryError> {
    let failed = |reason: String| RegistryError::PasswordFile { path: path.display().to_string(), reason };
    let length = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
    if length > PASSWORD_BYTES_MAX {
        return Err(failed(format!("it is longer than {PASSWORD_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    let password = text.trim_end();
    if password.is_empty() {
        return Err(failed("it is empty".to_owned()));
    }
    Ok(SecretString::from(password))
}

/// What Docker needs to push to and pull from the registry.
#[derive(Debug, Clone)]
pub struct DockerAuth {
    /// The user's name.
    pub username: String,
    /// The password.
    pub password: SecretString,
    /// The registry, as [`Registry::host`](crate::Registry::host) names it.
    pub serveraddress: String,
}

/// A checked registry address.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// `scheme://host:port/`.
    pub(crate) base: Url,
    /// What Docker references begin with.
    pub(crate) host: String,
}

impl Endpoint {
    pub(crate) fn new(settings: &RegistrySettings) -> Result<Self, RegistryError> {
        settings.credentials.check()?;
        let base = Url::parse(settings.url.trim())
            .map_err(|e| self::settings("url", format!("{e}; write http://HOST:PORT or https://HOST")))?;
        if !base.username().is_empty() || base.password().is_some() {
            return Err(self::settings(
                "url",
                "it holds credentials; put the user's name and the password file into their own settings",
            ));
        }
        if !matches!(base.scheme(), "http" | "https") {
            return Err(self::settings("url", "it begins neither with http:// nor with https://"));
        }
        if !matches!(base.path(), "" | "/") || base.query().is_some() || base.fragment().is_some() {
            return Err(self::settings("url", "it has a path; a registry is named by host and port alone"));
        }
        let Some(name) = base.host_str().filter(|h| !h.is_empty()) else {
            return Err(self::settings("url", "it names no host"));
        };
        let host = docker_host(name, base.port(), base.port_or_known_default());
        Ok(Self { base, host })
    }
}

/// The host as Docker must see it: a bare word without dot or port would be read as a name on Docker's
/// own hub, so it gets its port spelled out.
fn docker_host(name: &str, port: Option<u16>, known: Option<u16>) -> String {
    let bare_word = name != "localhost" && !name.contains('.') && !name.contains(':');
    match (port, known) {
        (Some(port), _) => format!("{name}:{port}"),
        (None, Some(known)) if bare_word => format!("{name}:{known}"),
        _ => name.to_owned(),
    }
}

pub(crate) fn settings(setting: &'static str, reason: impl Into<String>) -> RegistryError {
    RegistryError::Settings { setting, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Result<Endpoint, RegistryError> {
        Endpoint::new(&RegistrySettings::new(url, Credentials::Anonymous))
    }

    #[test]
    fn the_host_is_what_docker_references_begin_with() {
        for (url, host) in [
            ("http://127.0.0.1:5000", "127.0.0.1:5000"),
            ("http://127.0.0.1:5000/", "127.0.0.1:5000"),
            ("https://registry.example.org", "registry.example.org"),
            ("https://registry.example.org:443", "registry.example.org"),
            ("http://registry:5000", "registry:5000"),
            ("http://registry", "registry:80"),
            ("https://registry", "registry:443"),
            ("http://localhost", "localhost"),
        ] {
            assert_eq!(endpoint(url).unwrap().host, host, "{url}");
        }
    }

    #[test]
    fn an_address_that_cannot_work_is_refused_and_never_repeated_with_its_password() {
        for url in [
            "",
            "registry:5000",
            "ftp://a",
            "http://",
            "http://a/b",
            "http://a?x=1",
            "http://me:geheim@a:5000",
            "http://me@a",
        ] {
            let error = endpoint(url).unwrap_err().to_string();
            assert!(error.contains("\"url\"") && !error.contains("geheim"), "{url}: {error}");
        }
    }

    #[test]
    fn a_password_file_is_read_without_its_newline() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        let credentials = Credentials::File { username: "a".into(), password_file: file.clone() };
        assert!(matches!(credentials.password(), Err(RegistryError::PasswordFile { .. })));
        std::fs::write(&file, "pw~?>x~~??\n").unwrap();
        let password = credentials.password().unwrap().unwrap();
        assert_eq!(secrecy::ExposeSecret::expose_secret(&password), "pw~?>x~~??");
        std::fs::write(&file, "\n").unwrap();
        assert!(credentials.password().is_err());
    }

    #[test]
    fn nothing_of_a_password_is_in_debug_output() {
        let credentials = Credentials::Basic { username: "a".into(), password: "geheim".into() };
        assert!(!format!("{:?}", RegistrySettings::new("http://a", credentials)).contains("geheim"));
    }
}
