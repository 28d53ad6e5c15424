//! Walking a tree with several threads, within a time: on a cold disk the latency of each directory is what costs.

use super::until::Until;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, openat2, statat};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Directories that may wait for their turn: what goes beyond is not walked, and said not to be.
const PENDING_MAX: usize = 300_000;
/// Entries between two looks at the clock.
const CLOCK_EVERY: usize = 64;

/// What is done with each entry. Each thread has one of its own.
pub(super) trait Visit: Send {
    /// What is known of a directory by where it is.
    type Inside: Send;

    /// Takes one entry; `path` is relative to the root. For a directory, what is known of its inside if it is to be walked.
    fn entry(&mut self, path: &[u8], within: &Self::Inside, stat: &Stat) -> Option<Self::Inside>;
}

/// How far a walk may go.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub(super) until: Until,
    pub(super) threads: usize,
}

/// The root of a tree, opened once: whatever becomes of its path, what is below it is read.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    fn directory(&self, path: &[u8]) -> io::Result<Dir> {
        let path = if path.is_empty() { b".".as_slice() } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Dir::new(openat2(&self.0, path, flags, Mode::empty(), below())?)?)
    }

    /// Opens a regular file; a pipe that took its place does not hold anybody up.
    pub(super) fn file(&self, path: &[u8]) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(openat2(&self.0, path, flags, Mode::empty(), below())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }
}

fn below() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

/// Walks everything below the root, breadth first. Returns the visitors, and whether all was walked in time. A directory that
/// cannot be read or is gone is passed over.
pub(super) fn walk<V: Visit>(
    root: &Root,
    inside: V::Inside,
    bounds: &Bounds,
    visitor: impl Fn() -> V,
) -> (Vec<V>, bool) {
    let todo = Todo {
        state: Mutex::new(State {
            pending: VecDeque::from([(Vec::new(), inside)]),
            working: 0,
            complete: true,
        }),
        changed: Condvar::new(),
    };
    let mut visitors: Vec<V> = (0..bounds.threads.max(1)).map(|_| visitor()).collect();
    std::thread::scope(|scope| {
        for visitor in &mut visitors {
            scope.spawn(|| work(root, &todo, visitor, &bounds.until));
        }
    });
    let complete = todo.lock().complete;
    (visitors, complete)
}

/// What the threads share.
struct Todo<I> {
    state: Mutex<State<I>>,
    changed: Condvar,
}

struct State<I> {
    pending: VecDeque<(Vec<u8>, I)>,
    /// Threads that walk a directory, and so may find more.
    working: usize,
    complete: bool,
}

impl<I> Todo<I> {
    fn lock(&self) -> MutexGuard<'_, State<I>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next directory; none when all are done or the time is over.
    fn next(&self, until: &Until) -> Option<(Vec<u8>, I)> {
        let mut state = self.lock();
        loop {
            let left = until.left();
            if left.is_zero() {
                state.complete &= state.pending.is_empty() && state.working == 0;
                return None;
            }
            if let Some(next) = state.pending.pop_front() {
                state.working += 1;
                return Some(next);
            }
            if state.working == 0 {
                return None;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn done(&self, found: Vec<(Vec<u8>, I)>, complete: bool) {
        let mut state = self.lock();
        state.working -= 1;
        let room = PENDING_MAX.saturating_sub(state.pending.len());
        state.complete &= complete && found.len() <= room;
        state.pending.extend(found.into_iter().take(room));
        self.changed.notify_all();
    }
}

fn work<V: Visit>(root: &Root, todo: &Todo<V::Inside>, visitor: &mut V, until: &Until) {
    while let Some((path, inside)) = todo.next(until) {
        let mut found = Vec::new();
        let complete = match root.directory(&path) {
            Ok(directory) => list(directory, &path, &inside, visitor, &mut found, until),
            Err(_) => true,
        };
        todo.done(found, complete);
    }
}

/// Visits the entries of one directory; false when the time was over first.
fn list<V: Visit>(
    mut directory: Dir,
    path: &[u8],
    inside: &V::Inside,
    visitor: &mut V,
    found: &mut Vec<(Vec<u8>, V::Inside)>,
    until: &Until,
) -> bool {
    let mut count = 0;
    let mut full = path.to_vec();
    while let Some(Ok(entry)) = directory.read() {
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        count += 1;
        if count % CLOCK_EVERY == 0 && until.is_over() {
            return false;
        }
        let Ok(fd) = directory.fd() else { return true };
        let Ok(stat) = statat(fd, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        full.truncate(path.len());
        if !path.is_empty() {
            full.push(b'/');
        }
        full.extend_from_slice(name);
        let inside = visitor.entry(&full, inside, &stat);
        if let Some(inside) = inside.filter(|_| kind(&stat) == FileType::Directory) {
            found.push((full.clone(), inside));
        }
    }
    true
}

/// What an entry is.
pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio_util::sync::CancellationToken;

    struct Names(Vec<String>);

    impl Visit for Names {
        type Inside = ();
        fn entry(&mut self, path: &[u8], (): &(), _: &Stat) -> Option<()> {
            self.0.push(String::from_utf8_lossy(path).into_owned());
            Some(())
        }
    }

    fn names(root: &Path, until: Until) -> (Vec<String>, bool) {
        let root = Root::open(root).unwrap();
        let (visitors, complete) = walk(&root, (), &Bounds { until, threads: 4 }, || Names(Vec::new()));
        let mut names: Vec<String> = visitors.into_iter().flat_map(|v| v.0).collect();
        names.sort();
        (names, complete)
    }

    #[test]
    fn everything_is_seen_once_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        std::fs::write(dir.path().join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("a/out")).unwrap();
        std::os::unix::fs::symlink("..", dir.path().join("a/b/up")).unwrap();
        let (names, complete) = names(dir.path(), Until::after(Duration::from_mins(1)));
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/b/file", "a/b/up", "a/out"]);
        assert!(complete);
        let root = Root::open(dir.path()).unwrap();
        assert!(root.file(b"a/b/file").is_ok());
        for out in ["a/out/hostname", "a/b/up/b/file", "../etc/hostname", "/etc/hostname", "a/b"] {
            assert!(root.file(out.as_bytes()).is_err(), "{out}");
        }
    }

    #[test]
    fn it_stops_in_time_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..300 {
            std::fs::create_dir(dir.path().join(i.to_string())).unwrap();
        }
        let (seen, complete) = names(dir.path(), Until::after(Duration::ZERO));
        assert!(!complete && seen.len() < 300, "{}", seen.len());
        let (seen, complete) = names(dir.path(), Until::after(Duration::from_mins(1)));
        assert!(complete && seen.len() == 300);
        let stop = CancellationToken::new();
        stop.cancel();
        let (_, complete) = names(dir.path(), Until::after(Duration::from_mins(1)).or(stop));
        assert!(!complete);
    }
}
