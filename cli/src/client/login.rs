//! The saved login: which server, and the key for each, in a file that only its owner reads.

use crate::exit::Fail;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where a server is, when nobody says it.
const DEFAULT_URL: &str = "http://127.0.0.1:8780";

/// The address used when neither a flag, the environment nor a login names one.
pub(crate) fn default_url() -> &'static str {
    DEFAULT_URL
}

/// What the file holds.
#[derive(Default, Serialize, Deserialize)]
struct Saved {
    /// The server of the last login.
    current: Option<String>,
    /// Keys by server: a key is only ever sent to the server it is for.
    #[serde(default)]
    keys: BTreeMap<String, String>,
}

/// The saved logins of a user of this machine.
pub(crate) struct Login {
    path: Option<PathBuf>,
    saved: Saved,
}

impl Login {
    /// Reads the file below `$XDG_CONFIG_HOME` or `~/.config`. There may be none.
    pub(crate) fn read(xdg_config_home: Option<&str>, home: Option<&str>) -> Result<Self, Fail> {
        let path = path_below(xdg_config_home, home);
        let shown = path.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
        let saved = match path.as_ref().map(std::fs::read_to_string) {
            Some(Ok(text)) => toml::from_str(&text).map_err(|_| {
                Fail::failed(format!("the saved login {shown} cannot be read"))
                    .hint("run `mothball login` again")
            })?,
            Some(Err(e)) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Fail::failed(format!("read {shown}: {e}")));
            }
            _ => Saved::default(),
        };
        Ok(Self { path, saved })
    }

    /// The same, but without what a broken file holds: it must not stand in the way of the login that mends it.
    pub(crate) fn read_or_begin(xdg_config_home: Option<&str>, home: Option<&str>) -> Self {
        Self::read(xdg_config_home, home)
            .unwrap_or_else(|_| Self { path: path_below(xdg_config_home, home), saved: Saved::default() })
    }

    /// The server of the last login.
    pub(crate) fn url(&self) -> Option<&str> {
        self.saved.current.as_deref()
    }

    /// The key for a server.
    pub(crate) fn key(&self, url: &str) -> Option<SecretString> {
        self.saved.keys.get(&normal(url)).map(|key| SecretString::from(key.as_str()))
    }

    /// Remembers a key, and its server as the one to use.
    pub(crate) fn save(&mut self, url: &str, key: &SecretString) -> Result<PathBuf, Fail> {
        self.saved.current = Some(url.to_owned());
        self.saved.keys.insert(normal(url), key.expose_secret().to_owned());
        self.write()
    }

    /// Forgets the key for a server; whether there was one.
    pub(crate) fn forget(&mut self, url: &str) -> Result<bool, Fail> {
        let known = self.saved.keys.remove(&normal(url)).is_some();
        if self.saved.current.as_deref().map(normal) == Some(normal(url)) {
            self.saved.current = None;
        }
        if known {
            self.write()?;
        }
        Ok(known)
    }

    fn write(&self) -> Result<PathBuf, Fail> {
        let path = self.path.clone().ok_or_else(|| {
            Fail::failed("there is no place for the login: neither HOME nor XDG_CONFIG_HOME is set")
                .hint("set MOTHBALL_API_KEY instead")
        })?;
        let failed = |e: std::io::Error| Fail::failed(format!("write {}: {e}", path.display()));
        let dir = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(dir).map_err(failed)?;
        let text = toml::to_string(&self.saved).map_err(|e| Fail::failed(format!("write the login: {e}")))?;
        // Made with mode 0600, and put in place whole: no moment in which others could read it, or it is half.
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|e| failed(e.error))?;
        Ok(path)
    }
}

fn path_below(xdg_config_home: Option<&str>, home: Option<&str>) -> Option<PathBuf> {
    let config = xdg_config_home.filter(|d| d.starts_with('/')).map(PathBuf::from);
    let config = config.or_else(|| home.filter(|d| !d.is_empty()).map(|d| Path::new(d).join(".config")));
    config.map(|dir| dir.join("mothball").join("login.toml"))
}

/// One spelling for one server.
fn normal(url: &str) -> String {
    url.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_login_is_kept_for_its_server_alone() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        let mut login = Login::read(None, Some(home)).unwrap();
        assert_eq!(login.url(), None);
        let path = login.save("http://a:1/", &"key-a".into()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut login = Login::read(Some("relative"), Some(home)).unwrap();
        assert_eq!(login.url(), Some("http://a:1/"));
        assert_eq!(login.key("http://a:1").unwrap().expose_secret(), "key-a");
        assert!(login.key("http://b:1").is_none());
        assert!(login.forget("http://a:1").unwrap() && !login.forget("http://a:1").unwrap());
        assert!(Login::read(None, Some(home)).unwrap().key("http://a:1").is_none());
    }

    #[test]
    fn a_broken_file_is_an_error_that_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("mothball")).unwrap();
        std::fs::write(dir.path().join("mothball/login.toml"), "geheim").unwrap();
        let fail = Login::read(dir.path().to_str(), None).err().unwrap();
        Login::read_or_begin(dir.path().to_str(), None).save("http://a", &"key".into()).unwrap();
        assert!(Login::read(dir.path().to_str(), None).is_ok());
        assert!(fail.hint.unwrap().contains("mothball login") && !fail.message.contains("geheim"));
    }
}
