//! The base images of this node's containers, kept from their launch or adoption on: an image may be gone from the node when
//! its container is saved, and without its config nobody could say what a container of the saved image starts with.
//!
//! What is kept is the image's config byte for byte, as Docker has it in its data root: its digest is the image's id, so
//! the file proves itself, and with it a registry can hold the very same image.

use bytes::Bytes;
use mothball_domain::image::Digest;
use mothball_image::ImageConfig;
use mothball_image::oci::digest_of;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Longest config that is read.
const CONFIG_BYTES_MAX: u64 = 8 << 20;
/// Where Docker's classic image store keeps the configs, below its data root.
const IMAGE_DB: &str = "image/overlay2/imagedb/content/sha256";

/// The kept configs: one file for each image.
#[derive(Debug, Clone)]
pub(crate) struct Bases {
    dir: PathBuf,
}

/// An image that containers of this node are made of.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    /// Its id: the digest of `raw`.
    pub(crate) id: Digest,
    /// Its config, byte for byte.
    pub(crate) raw: Bytes,
    /// What that says.
    pub(crate) config: ImageConfig,
}

impl Bases {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.join("bases") }
    }

    /// An image's config, from what is kept or else from Docker's data root, and then kept. None where neither has it.
    pub(crate) fn keep(&self, data_root: &Path, image_id: &str) -> io::Result<Option<Base>> {
        let Ok(id) = Digest::new(image_id) else { return Ok(None) };
        let kept = self.dir.join(id.hex());
        if let Some(base) = read(&kept, &id) {
            return Ok(Some(base));
        }
        let Some(base) = read(&data_root.join(IMAGE_DB).join(id.hex()), &id) else { return Ok(None) };
        fs::create_dir_all(&self.dir)?;
        let mut draft = tempfile::NamedTempFile::new_in(&self.dir)?;
        draft.write_all(&base.raw)?;
        draft.as_file().sync_all()?;
        draft.persist(&kept)?;
        Ok(Some(base))
    }

    /// Whether an image's config is kept.
    pub(crate) fn has(&self, image_id: &str) -> bool {
        Digest::new(image_id).is_ok_and(|id| self.dir.join(id.hex()).exists())
    }

    /// The ids of the images whose configs are kept.
    pub(crate) fn list(&self) -> io::Result<Vec<Digest>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            // A draft is none.
            found.extend(Digest::new(format!("sha256:{}", entry?.file_name().to_string_lossy())));
        }
        Ok(found)
    }

    /// Forgets an image that no container is made of any more.
    pub(crate) fn forget(&self, id: &Digest) -> io::Result<()> {
        fs::remove_file(self.dir.join(id.hex()))
    }
}

/// Reads a config that proves itself; anything else is none.
fn read(path: &Path, id: &Digest) -> Option<Base> {
    let mut raw = Vec::new();
    fs::File::open(path).ok()?.take(CONFIG_BYTES_MAX).read_to_end(&mut raw).ok()?;
    if digest_of(&raw) != *id {
        return None;
    }
    let config = ImageConfig::parse("read a kept image's config", &raw).ok()?;
    Some(Base { id: id.clone(), raw: Bytes::from(raw), config })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_outlives_its_image_and_goes_with_the_last_container() {
        let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let raw = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
        let id = digest_of(raw);
        let db = root.path().join(IMAGE_DB);
        fs::create_dir_all(&db).unwrap();
        fs::write(db.join(id.hex()), raw).unwrap();

        let bases = Bases::new(state.path());
        let other = Digest::from_sha256([7; 32]);
        assert!(bases.keep(root.path(), other.as_str()).unwrap().is_none());
        assert!(bases.keep(root.path(), "no digest").unwrap().is_none());
        assert_eq!(bases.keep(root.path(), id.as_str()).unwrap().unwrap().raw, &raw[..]);
        fs::remove_file(db.join(id.hex())).unwrap();
        assert_eq!(bases.keep(root.path(), id.as_str()).unwrap().unwrap().id, id);

        assert!(bases.has(id.as_str()) && !bases.has(other.as_str()));
        assert_eq!(bases.list().unwrap(), std::slice::from_ref(&id));
        bases.forget(&id).unwrap();
        assert!(bases.keep(root.path(), id.as_str()).unwrap().is_none());
        assert!(Bases::new(&state.path().join("none")).list().unwrap().is_empty());
    }

    #[test]
    fn what_does_not_prove_itself_is_not_believed() {
        let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let db = root.path().join(IMAGE_DB);
        fs::create_dir_all(&db).unwrap();
        let id = Digest::from_sha256([1; 32]);
        fs::write(db.join(id.hex()), b"{}").unwrap();
        assert!(Bases::new(state.path()).keep(root.path(), id.as_str()).unwrap().is_none());
    }
}
