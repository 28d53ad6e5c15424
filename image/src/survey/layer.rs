//! Looking at a writable layer, as overlay2 has it.

use super::caches::cache_at;
use super::content::{self, Candidate, FILE_SIZE_MAX, FILES_MAX};
use super::largest::{Largest, Weights};
use super::names::{SecretRules, Verdict, is_quiet, verdict};
use super::until::Until;
use super::walk::{Bounds, Root, Visit, kind, walk};
use super::{depth, shown};
use mothball_domain::exclude::Excluder;
use mothball_domain::survey::{
    Cache, CacheKind, LARGEST_MAX, LayerReport, SECRETS_MAX, SecretKind, SecretLike,
};
use rustix::fs::{FileType, Stat};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Files with several names that are remembered, so that their bytes count once.
const LINKED_MAX: usize = 1_000_000;

/// How a layer is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Looking<'a> {
    /// What the save would leave out.
    pub excludes: &'a Excluder,
    /// The operator's word on what looks like a secret.
    pub secrets: &'a SecretRules,
    /// When to stop counting, whatever is left.
    pub until: &'a Until,
    /// Threads.
    pub threads: usize,
}

/// Looks at the writable layer that lies in `upper`. Blocks; what is not counted in time is missing from the report, which
/// says so. Fails only where the directory cannot be opened.
pub fn look_at_layer(upper: &Path, looking: Looking<'_>) -> io::Result<LayerReport> {
    let root = Root::open(upper)?;
    let began = Instant::now();
    // A walk that takes all the time would leave nothing to look for secrets.
    let bounds = Bounds { until: looking.until.part(75), threads: looking.threads };
    let linked = Mutex::new(HashSet::new());
    let visitor = || Visitor::new(&looking, &linked);
    let (visitors, complete) = walk(&root, Inside::default(), &bounds, visitor);
    let mut all = Visitor::new(&looking, &linked);
    for visitor in visitors {
        all.merge(visitor);
    }
    Ok(all.report(
        &root,
        complete,
        &looking.until.not_before(began + Duration::from_millis(1)),
        looking.threads,
    ))
}

/// What is known of a directory by where it is.
#[derive(Debug, Clone, Copy, Default)]
struct Inside {
    quiet: bool,
    excluded: bool,
    /// The cache it belongs to, and how much of the path is that cache's own.
    cache: Option<(CacheKind, usize)>,
}

struct Visitor<'a> {
    looking: Looking<'a>,
    linked: &'a Mutex<HashSet<(u64, u64)>>,
    bytes: u64,
    entries: u64,
    deleted: u64,
    excluded_bytes: u64,
    weights: Weights,
    files: Largest,
    caches: HashMap<Vec<u8>, (CacheKind, u64)>,
    secrets: Vec<(Vec<u8>, SecretKind)>,
    secrets_more: u64,
    candidates: Vec<Candidate>,
    candidates_complete: bool,
}

impl<'a> Visitor<'a> {
    fn new(looking: &Looking<'a>, linked: &'a Mutex<HashSet<(u64, u64)>>) -> Self {
        Self {
            looking: *looking,
            linked,
            bytes: 0,
            entries: 0,
            deleted: 0,
            excluded_bytes: 0,
            weights: Weights::default(),
            files: Largest::default(),
            caches: HashMap::new(),
            secrets: Vec::new(),
            secrets_more: 0,
            candidates: Vec::new(),
            candidates_complete: true,
        }
    }

    /// Bytes that an entry adds: those of a file count at the first of its names.
    fn weigh(&self, stat: &Stat) -> u64 {
        if kind(stat) != FileType::RegularFile {
            return 0;
        }
        if stat.st_nlink > 1 {
            let mut linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
            if linked.len() < LINKED_MAX && !linked.insert((stat.st_dev, stat.st_ino)) {
                return 0;
            }
        }
        stat.st_size.unsigned_abs()
    }

    fn file(&mut self, path: &[u8], bytes: u64, within: &Inside) {
        self.files.add(path, bytes);
        if let Some((kind, len)) = within.cache {
            let root = &path[..len];
            if let Some((_, sum)) = self.caches.get_mut(root) {
                *sum += bytes;
            } else {
                self.caches.insert(root.to_vec(), (kind, bytes));
            }
        }
        let SecretRules { also, never } = self.looking.secrets;
        if never.leaves_out(path, false) {
            return;
        }
        let verdict = verdict(path, bytes, within.quiet);
        let listed = matches!(verdict, Verdict::Pass | Verdict::Look) && also.leaves_out(path, false);
        match verdict {
            _ if listed => self.secret(path, SecretKind::Listed),
            Verdict::Secret(kind) => self.secret(path, kind),
            Verdict::Pass => {}
            _ if bytes > FILE_SIZE_MAX || within.cache.is_some() => {}
            verdict if self.candidates.len() < FILES_MAX => {
                self.candidates.push(Candidate { path: path.to_vec(), verdict });
            }
            _ => self.candidates_complete = false,
        }
    }

    fn secret(&mut self, path: &[u8], kind: SecretKind) {
        if self.secrets.len() < SECRETS_MAX {
            self.secrets.push((path.to_vec(), kind));
        } else {
            self.secrets_more += 1;
        }
    }

    fn merge(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.entries += other.entries;
        self.deleted += other.deleted;
        self.excluded_bytes += other.excluded_bytes;
        self.weights.merge(other.weights);
        self.files.merge(other.files);
        for (path, (kind, bytes)) in other.caches {
            self.caches.entry(path).or_insert((kind, 0)).1 += bytes;
        }
        self.secrets_more += other.secrets_more;
        self.secrets.extend(other.secrets);
        self.candidates_complete &= other.candidates_complete;
        self.candidates.extend(other.candidates);
    }

    fn report(mut self, root: &Root, complete: bool, until: &Until, threads: usize) -> LayerReport {
        // Nearest to the root first: what people write lies there, and what they unpack lies deep.
        self.candidates.sort_by_cached_key(|c| depth(&c.path));
        let too_many = self.candidates.len() > FILES_MAX;
        self.candidates.truncate(FILES_MAX);
        let (found, looked) = content::look_into(root, &self.candidates, until, threads);
        self.secrets.extend(found);
        let mut secrets: Vec<SecretLike> = self
            .secrets
            .iter()
            .map(|(path, kind)| SecretLike { path: shown("", path), kind: *kind })
            .collect();
        secrets.sort();
        let over = secrets.len().saturating_sub(SECRETS_MAX);
        secrets.truncate(SECRETS_MAX);
        let cache = |(path, (kind, bytes)): (Vec<u8>, (CacheKind, u64))| Cache {
            path: shown("", &path),
            kind,
            bytes,
        };
        let mut caches: Vec<Cache> =
            self.caches.into_iter().filter(|(_, (_, bytes))| *bytes > 0).map(cache).collect();
        caches.sort_by(|a, b| (b.bytes, &a.path).cmp(&(a.bytes, &b.path)));
        caches.truncate(LARGEST_MAX);
        LayerReport {
            bytes: self.bytes,
            entries: self.entries,
            deleted: self.deleted,
            excluded_bytes: self.excluded_bytes,
            complete,
            largest_directories: self.weights.largest(),
            largest_files: self.files.weights(),
            secrets,
            secrets_more: self.secrets_more + over as u64,
            secrets_complete: complete && looked && self.candidates_complete && !too_many,
            caches,
        }
    }
}

impl Visit for Visitor<'_> {
    type Inside = Inside;

    fn entry(&mut self, path: &[u8], within: &Inside, stat: &Stat) -> Option<Inside> {
        let file_type = kind(stat);
        let is_directory = file_type == FileType::Directory;
        let bytes = self.weigh(stat);
        let mut inside = *within;
        inside.excluded = inside.excluded || self.looking.excludes.leaves_out(path, is_directory);
        if inside.excluded {
            self.excluded_bytes += bytes;
            return is_directory.then_some(inside);
        }
        self.entries += 1;
        self.bytes += bytes;
        self.weights.add(path, bytes);
        match file_type {
            FileType::RegularFile => self.file(path, bytes, within),
            // overlay2 writes down a deletion as a device that cannot be.
            FileType::CharacterDevice if stat.st_rdev == 0 => self.deleted += 1,
            _ => {}
        }
        inside.quiet = inside.quiet || is_quiet(path);
        inside.cache = inside.cache.or_else(|| cache_at(path).map(|kind| (kind, path.len())));
        is_directory.then_some(inside)
    }
}

#[cfg(test)]
mod tests;
