//! One look at a whole tree: names and what `stat` says, nothing is read.
//!
//! Threads take a few directories at a time: on a cold disk the waits overlap, and where everything is in memory they
//! seldom meet at the lock. What vanishes meanwhile is not in the result, and what changes is seen before or after: a walk of
//! a running container is a draft that the next one mends.

use super::entry::{OPAQUE_NAME, PATH_BYTES_MAX, Timestamp};
use super::root::Root;
use super::tree::{Kind, Node, NodeId, ROOT, Tree};
use batch::Batch;
use rustix::fs::{FileType, Stat};
use std::io;
use std::mem::MaybeUninit;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

mod batch;

/// Longest path that is taken: an opaque mark in it still has a path that can be unpacked.
const WALK_PATH_BYTES_MAX: usize = PATH_BYTES_MAX - 1 - OPAQUE_NAME.len();
/// Threads of a walk: more than cores, since on a cold disk they mostly wait.
const THREADS: usize = 8;
/// How many of the paths that were left out are named.
const NAMED_MAX: usize = 100;
/// Buffer for one read of a directory: whoever reads a large one asks seldom.
const LISTING_BYTES: usize = 128 * 1024;
/// Entries for which there is room at once, and bytes of their names. So much comes from the system by itself, costs nothing
/// until it is written to, and grows and shrinks without being copied; less would be held twice whenever it grows.
const ROOM_ENTRIES: usize = 1 << 20;
const ROOM_NAMES_BYTES: usize = 40 << 20;
/// Most directories that a thread takes at once.
const BATCH_DIRECTORIES: usize = 16;

/// Why something of the tree is not in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// A socket: it is of no use without the process that listens.
    Socket,
    /// Its name begins as whiteouts' do: in a layer it would delete instead of add.
    WhiteoutName,
    /// Its path is longer than any Docker can unpack.
    PathTooLong,
    /// It is mounted there from elsewhere.
    OtherFileSystem,
    /// It was to be left out by a pattern.
    Excluded,
    /// It belongs to the node or to Docker and not to the image.
    Hygiene,
}

/// What was left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// The first of them, sorted. Of a directory, itself only.
    pub named: Vec<(Vec<u8>, Reason)>,
    /// How many there are.
    pub count: u64,
}

impl LeftOut {
    fn add(&mut self, path: &[u8], reason: Reason) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push((path.to_vec(), reason));
        }
    }

    fn take(&mut self, other: &mut Self) {
        self.count += std::mem::take(&mut other.count);
        let room = NAMED_MAX.saturating_sub(self.named.len());
        self.named.extend(other.named.drain(..).take(room));
    }
}

/// Who decides what a walk leaves out.
pub trait Keep: Sync {
    /// Why the entry is left out, with all that is in it; nothing where it is kept.
    fn leave_out(&self, path: &[u8], node: &Node) -> Option<Reason>;
}

/// Leaves nothing out.
#[derive(Debug, Clone, Copy)]
pub struct KeepAll;

impl Keep for KeepAll {
    fn leave_out(&self, _: &[u8], _: &Node) -> Option<Reason> {
        None
    }
}

/// Looks at the whole tree. Fails on what the file system refuses, never because something changes meanwhile.
pub fn walk(root: &Root, keep: &dyn Keep) -> io::Result<Tree> {
    let walked_at_nanos = file_system_now();
    let stat = rustix::fs::fstat(root.fd())?;
    let node = node_of(&stat, Kind::Directory);
    let mut tree = Tree {
        nodes: Vec::with_capacity(ROOM_ENTRIES),
        names: Vec::with_capacity(ROOM_NAMES_BYTES),
        left_out: LeftOut::default(),
        walked_at_nanos,
        hole_bytes: 0,
        redirected: false,
    };
    tree.nodes.push(node);
    let shared = Shared { tree, queue: vec![ROOT], busy: 0, waiting: 0, failed: None };
    let walk = Walk { root, keep, device: stat.st_dev, shared: Mutex::new(shared), changed: Condvar::new() };
    std::thread::scope(|scope| {
        for _ in 1..THREADS {
            scope.spawn(|| walk.work());
        }
        walk.work();
    });
    let shared = walk.shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = shared.failed {
        return Err(error);
    }
    let mut tree = shared.tree;
    tree.left_out.named.sort_unstable();
    tree.nodes.shrink_to_fit();
    tree.names.shrink_to_fit();
    Ok(tree)
}

/// The time by the clock that file systems stamp with: it moves in ticks, and so do their stamps.
pub(crate) fn file_system_now() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    now.tv_sec.wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec)
}

struct Walk<'a> {
    root: &'a Root,
    keep: &'a dyn Keep,
    device: u64,
    shared: Mutex<Shared>,
    /// There is something new in the queue, or nothing will come any more.
    changed: Condvar,
}

/// What the threads share.
struct Shared {
    tree: Tree,
    /// Directories that nobody has looked into.
    queue: Vec<NodeId>,
    /// Threads that look into some.
    busy: usize,
    /// Threads that have nothing to do.
    waiting: usize,
    failed: Option<io::Error>,
}

impl Walk<'_> {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes directories until there are none left, or one fails.
    fn work(&self) {
        let mut buffer = vec![MaybeUninit::uninit(); LISTING_BYTES];
        let mut batch = Batch::default();
        let mut shared = self.lock();
        loop {
            if shared.failed.is_some() || (shared.queue.is_empty() && shared.busy == 0) {
                self.changed.notify_all();
                return;
            }
            if shared.queue.is_empty() {
                shared.waiting += 1;
                shared = self.changed.wait(shared).unwrap_or_else(PoisonError::into_inner);
                shared.waiting -= 1;
                continue;
            }
            shared.give(&mut batch);
            shared.busy += 1;
            drop(shared);
            let listed = batch.list(self, &mut buffer);
            shared = self.lock();
            shared.busy -= 1;
            if let Err(error) = listed.and_then(|()| shared.take(&mut batch)) {
                shared.failed = Some(error);
            }
            // This thread takes a share itself; whoever is not needed sleeps on.
            for _ in 0..shared.waiting.min(shared.queue.len().saturating_sub(1)) {
                self.changed.notify_one();
            }
        }
    }
}

impl Shared {
    /// Gives a fair share of the directories that wait.
    fn give(&mut self, batch: &mut Batch) {
        let share = (self.queue.len() / THREADS).clamp(1, BATCH_DIRECTORIES);
        let from = self.queue.len() - share;
        batch.begin(&self.tree, self.queue.drain(from..));
    }

    /// Puts what directories hold into the tree, and their directories into the queue.
    fn take(&mut self, batch: &mut Batch) -> io::Result<()> {
        let tree = &mut self.tree;
        tree.redirected |= batch.redirected;
        tree.hole_bytes += batch.hole_bytes;
        tree.left_out.take(&mut batch.left_out);
        let (nodes, names) = batch.len();
        if u32::try_from(tree.nodes.len() + nodes).is_err()
            || u32::try_from(tree.names.len() + names).is_err()
        {
            return Err(io::Error::other("the tree has more entries than one image can hold"));
        }
        for listed in batch.directories() {
            if listed.opaque {
                tree.nodes[listed.id as usize].kind = Kind::OpaqueDirectory;
            }
            let first = tree.append(listed.id, listed.entries());
            let found = first..tree.nodes.len() as NodeId;
            self.queue.extend(found.filter(|id| tree.nodes[*id as usize].kind.is_directory()));
        }
        Ok(())
    }
}

/// What `stat` says that something is; nothing of sockets.
pub(crate) fn kind_of(stat: &Stat) -> Option<Kind> {
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Directory,
        FileType::RegularFile => Kind::File,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice if stat.st_rdev == 0 => Kind::Whiteout,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        _ => return None,
    })
}

#[expect(clippy::unnecessary_cast, reason = "the widths of these fields differ between architectures")]
pub(crate) fn node_of(stat: &Stat, kind: Kind) -> Node {
    let mtime = Timestamp { seconds: stat.st_mtime as i64, nanos: stat.st_mtime_nsec as u32 };
    Node {
        ctime_nanos: (stat.st_ctime as i64)
            .wrapping_mul(1_000_000_000)
            .wrapping_add(i64::from(stat.st_ctime_nsec as u32)),
        ino: stat.st_ino,
        size: match kind {
            Kind::File => stat.st_size as u64,
            Kind::CharDevice | Kind::BlockDevice => stat.st_rdev,
            _ => 0,
        },
        mtime_seconds: mtime.seconds,
        mtime_nanos: mtime.nanos,
        uid: stat.st_uid,
        gid: stat.st_gid,
        parent: ROOT,
        name_at: 0,
        first_child: 0,
        mode: (stat.st_mode & 0o7777) as u16,
        name_len: 0,
        kind,
        linked: kind == Kind::File && stat.st_nlink > 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::entry::OPAQUE_XATTR;
    use std::fs;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_walk_sees_everything_once_in_the_order_of_a_tar() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["b/x", "b/y/z", "a", "b!"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        fs::write(dir.path().join("b/file"), "12345").unwrap();
        fs::write(dir.path().join(".wh.no"), "").unwrap();
        let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
        rustix::fs::setxattr(dir.path().join("b"), OPAQUE_XATTR, b"y", rustix::fs::XattrFlags::empty())
            .unwrap();

        let tree = walk(&Root::open(dir.path()).unwrap(), &KeepAll).unwrap();
        let paths: Vec<_> = tree.ids().map(|id| String::from_utf8(tree.path(id)).unwrap()).collect();
        assert_eq!(paths, ["", "a", "b", "b/file", "b/x", "b/y", "b/y/z", "b!"]);
        assert_eq!(tree.len(), paths.len());
        for path in &paths {
            assert_eq!(tree.path(tree.find(path.as_bytes()).unwrap()), path.as_bytes());
        }
        assert_eq!(tree.find(b"b/none"), None);
        let b = tree.find(b"b").unwrap();
        assert_eq!(tree.node(b).kind, Kind::OpaqueDirectory);
        assert_eq!(tree.node(tree.find(b"b/file").unwrap()).size, 5);
        let left_out: Vec<_> =
            vec![(b".wh.no".to_vec(), Reason::WhiteoutName), (b"socket".to_vec(), Reason::Socket)];
        assert_eq!((tree.left_out.count, &tree.left_out.named), (2, &left_out));
    }
}
