//! The key of the first operator: configured, or made once and kept in a file that only its owner reads.

use crate::config::{Settings, is_key_shaped};
use crate::exit::Fail;
use secrecy::{ExposeSecret, SecretString};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// The admin's key.
pub(super) struct AdminKey(SecretString);

impl AdminKey {
    /// What the store keeps of it.
    pub(super) fn sha256(&self) -> String {
        mothball_api::keys::sha256(self.0.expose_secret())
    }
}

/// The configured key, or the one in `<data_dir>/admin.key`, made now if there is none.
pub(super) fn of(settings: &Settings) -> Result<AdminKey, Fail> {
    if let Some(key) = &settings.api.admin_key {
        return Ok(AdminKey(key.0.clone()));
    }
    let path = settings.data_dir.join("admin.key");
    match std::fs::read_to_string(&path) {
        Ok(text) => read(&path, &text),
        Err(e) if e.kind() == ErrorKind::NotFound => make(&settings.data_dir, &path),
        Err(e) => Err(Fail::failed(format!("read {}: {e}", path.display()))),
    }
}

fn read(path: &Path, text: &str) -> Result<AdminKey, Fail> {
    let shown = path.display();
    let key = text.trim();
    if !is_key_shaped(key) {
        return Err(Fail::failed(format!("{shown} does not hold a key"))
            .hint("remove the file to have one made, or set api.admin_key"));
    }
    let mode = std::fs::metadata(path).map_or(0, |m| m.permissions().mode() & 0o077);
    if mode != 0 {
        tracing::warn!("{shown} can be read by others than its owner: run `chmod 600 {shown}`");
    }
    Ok(AdminKey(key.into()))
}

fn make(data_dir: &Path, path: &Path) -> Result<AdminKey, Fail> {
    let failed = |e: std::io::Error| Fail::failed(format!("write {}: {e}", path.display()));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(failed)?;
    let key = SecretString::from(mothball_api::keys::generate());
    // Made with mode 0600, and in its place only when it is whole. Of two processes that start at once, one wins.
    let mut file = tempfile::NamedTempFile::new_in(data_dir).map_err(failed)?;
    writeln!(file, "{}", key.expose_secret()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    match file.persist_noclobber(path) {
        Ok(_) => {
            tracing::info!("made the key of user admin; it is kept in {}", path.display());
            Ok(AdminKey(key))
        }
        Err(e) if e.error.kind() == ErrorKind::AlreadyExists => {
            let text = std::fs::read_to_string(path).map_err(failed)?;
            read(path, &text)
        }
        Err(e) => Err(failed(e.error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let variables = [("MOTHBALL_DATA_DIR", data.to_str().unwrap()), ("MOTHBALL_WORKER__NODE", "n")];
        let variables = variables.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let settings = crate::config::load(None, &variables).unwrap();
        let first = of(&settings).unwrap();
        assert!(is_key_shaped(first.0.expose_secret()));
        assert_eq!(of(&settings).unwrap().sha256(), first.sha256());
        let path = data.join("admin.key");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "broken").unwrap();
        assert!(of(&settings).is_err());
    }
}
