//! What the worker remembers of its saves and restores: for each container an index of what the last image of it holds, so
//! that the next save sends only what changed.
//!
//! An index is written once its manifest is in the registry, under the container's Docker id and the manifest's digest, and
//! goes when the container is gone. Beside it may lie the partial index of a save that is not over: whoever tries again
//! finds there what is in the registry already. Both are caches: what cannot be read is not there.

use mothball_domain::image::Digest;
use mothball_image::layer::Index;
use mothball_image::save::Earlier;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the name of a whole index ends with; before it stand the container and the manifest.
const WHOLE: &str = "index";
/// What the name of a partial index ends with; before it stands the container.
const PARTIAL: &str = "partial";

/// The directory of the indexes. Its calls read and write files: not to be made where others wait.
#[derive(Debug, Clone)]
pub(crate) struct Indexes {
    dir: PathBuf,
}

impl Indexes {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.join("indexes") }
    }

    /// What the registry has of a save that is not over, or else what the last image of a container holds.
    pub(crate) fn load(&self, docker_id: &str) -> Option<Earlier> {
        let whole = self.whole_of(docker_id).into_iter();
        std::iter::once(self.partial(docker_id)).chain(whole).find_map(|path| {
            let repo = fs::read_to_string(repo_of(&path)).ok()?;
            Some(Earlier { index: Index::load(&path)?, repo })
        })
    }

    /// Writes down how far a save is.
    pub(crate) fn save_partial(&self, docker_id: &str, repo: &str, index: &Index) -> io::Result<()> {
        self.save(&self.partial(docker_id), repo, index)
    }

    /// Writes the index of the image whose manifest the registry has taken; it replaces all that was there.
    pub(crate) fn accept(
        &self,
        docker_id: &str,
        repo: &str,
        digest: &Digest,
        index: &Index,
    ) -> io::Result<()> {
        let path = self.dir.join(format!("{docker_id}.{}.{WHOLE}", digest.hex()));
        self.save(&path, repo, index)?;
        let old = self.whole_of(docker_id).into_iter().filter(|old| *old != path);
        old.chain([self.partial(docker_id)]).try_for_each(|old| remove(&old))
    }

    fn save(&self, path: &Path, repo: &str, index: &Index) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        // First: an index whose repository is not known is not used.
        fs::write(repo_of(path), repo)?;
        index.save(path)
    }

    /// Forgets what is remembered of a container: the next save reads everything.
    pub(crate) fn forget(&self, docker_id: &str) -> io::Result<()> {
        remove(&self.partial(docker_id))?;
        self.whole_of(docker_id).iter().try_for_each(|path| remove(path))
    }

    /// The Docker ids of the containers of which something is remembered.
    pub(crate) fn list(&self) -> io::Result<BTreeSet<String>> {
        let id = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
        Ok(self.names()?.iter().map(|name| id(name)).collect())
    }

    fn partial(&self, docker_id: &str) -> PathBuf {
        self.dir.join(format!("{docker_id}.{PARTIAL}"))
    }

    /// The whole indexes of a container: one, or two where a worker died between writing and removing; the newer one first.
    fn whole_of(&self, docker_id: &str) -> Vec<PathBuf> {
        let is_whole = |name: &String| {
            let rest = name.strip_prefix(docker_id).and_then(|rest| rest.strip_suffix(WHOLE));
            rest.is_some_and(|rest| rest.starts_with('.') && rest.ends_with('.') && rest.len() > 2)
        };
        let names = self.names().unwrap_or_default();
        let mut found: Vec<PathBuf> =
            names.iter().filter(|name| is_whole(name)).map(|name| self.dir.join(name)).collect();
        found.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).and_then(|m| m.modified()).ok()));
        found
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }
}

/// Where it stands which repository has an index's layers.
fn repo_of(path: &Path) -> PathBuf {
    path.with_added_extension("repo")
}

/// Removes an index. Idempotent.
fn remove(path: &Path) -> io::Result<()> {
    [path.to_owned(), repo_of(path)].iter().try_for_each(|path| match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mothball_image::layer::walk::KeepAll;
    use mothball_image::layer::{Base, Root, walk};
    use mothball_image::save::{ChangeSet, record};
    use std::sync::Arc;

    /// An index that is told from others by its rules.
    fn index(rules: &str) -> Index {
        let dir = tempfile::tempdir().unwrap();
        let tree = Arc::new(walk(&Root::open(dir.path()).unwrap(), &KeepAll).unwrap());
        let base = Base { image_id: "sha256:1".to_owned(), diff_ids: Vec::new() };
        record(None, &base, rules, &tree, &ChangeSet::full(&tree), &[], false)
    }

    fn known(indexes: &Indexes, id: &str) -> Option<(String, String)> {
        indexes.load(id).map(|earlier| (earlier.index.rules, earlier.repo))
    }

    fn pair(rules: &str, repo: &str) -> (String, String) {
        (rules.to_owned(), repo.to_owned())
    }

    #[test]
    fn what_is_not_over_counts_before_what_was_saved_last() {
        let dir = tempfile::tempdir().unwrap();
        let indexes = Indexes::new(dir.path());
        let (one, two) = (Digest::from_sha256([1; 32]), Digest::from_sha256([2; 32]));
        assert!(known(&indexes, "c").is_none() && indexes.list().unwrap().is_empty());
        indexes.save_partial("c", "p/a", &index("half")).unwrap();
        assert_eq!(known(&indexes, "c"), Some(pair("half", "p/a")));
        indexes.accept("c", "p/a", &one, &index("first")).unwrap();
        assert_eq!(known(&indexes, "c"), Some(pair("first", "p/a")));
        indexes.accept("c", "p/b", &two, &index("second")).unwrap();
        assert_eq!(known(&indexes, "c"), Some(pair("second", "p/b")));
        indexes.save_partial("c", "p/b", &index("half")).unwrap();
        assert_eq!(known(&indexes, "c"), Some(pair("half", "p/b")));

        // A partial index that is damaged is none: the whole one is there.
        fs::write(indexes.partial("c"), "x").unwrap();
        assert_eq!(known(&indexes, "c"), Some(pair("second", "p/b")));
        indexes.accept("cc", "p/b", &one, &index("other")).unwrap();
        assert_eq!(indexes.list().unwrap(), BTreeSet::from(["c".to_owned(), "cc".to_owned()]));
        indexes.forget("c").unwrap();
        assert!(known(&indexes, "c").is_none());
        assert_eq!(known(&indexes, "cc"), Some(pair("other", "p/b")));
        assert_eq!(indexes.names().unwrap().len(), 2);
    }
}
