//! One look at a whole tree: names and what `stat` says, nothing is read.
//!
//! Threads take directory after directory: on a cold disk the waits overlap. What vanishes meanwhile is not in the
//! result, and what changes is seen before or after: a walk of a running container is a draft that the next one mends.

use super::entry::{OPAQUE_NAME, OPAQUE_XATTR, PATH_BYTES_MAX, Timestamp, WHITEOUT_PREFIX};
use super::root::Root;
use super::tree::{Kind, Node, NodeId, ROOT, Tree};
use rustix::fs::{AtFlags, FileType, RawDir, Stat};
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Longest path that is taken: an opaque mark in it still has a path that can be unpacked.
const WALK_PATH_BYTES_MAX: usize = PATH_BYTES_MAX - 1 - OPAQUE_NAME.len();
/// Threads of a walk: more than cores, since on a cold disk they mostly wait.
const THREADS: usize = 8;
/// How many of the paths that were left out are named.
const NAMED_MAX: usize = 100;
/// Buffer for one read of a directory.
const LISTING_BYTES: usize = 32 * 1024;
/// The attribute by which overlayfs remembers where a renamed directory was.
const REDIRECT_XATTR: &[u8] = b"trusted.overlay.redirect";

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
    fn add(&mut self, path: Vec<u8>, reason: Reason) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push((path, reason));
        }
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
    let tree = Tree {
        nodes: vec![node],
        names: Vec::new(),
        left_out: LeftOut::default(),
        walked_at_nanos,
        hole_bytes: 0,
        redirected: false,
    };
    let state = State { tree, queue: vec![ROOT], busy: 0, failed: None };
    let walk = Walk { root, keep, device: stat.st_dev, state: Mutex::new(state), changed: Condvar::new() };
    std::thread::scope(|scope| {
        for _ in 1..THREADS {
            scope.spawn(|| walk.work());
        }
        walk.work();
    });
    let state = walk.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = state.failed {
        return Err(error);
    }
    let mut tree = state.tree;
    tree.left_out.named.sort_unstable();
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
    state: Mutex<State>,
    /// There is something new in the queue, or nothing will come any more.
    changed: Condvar,
}

struct State {
    tree: Tree,
    /// Directories that nobody has looked into.
    queue: Vec<NodeId>,
    /// Threads that look into one.
    busy: usize,
    failed: Option<io::Error>,
}

/// What one directory holds.
#[derive(Default)]
struct Listing {
    opaque: bool,
    redirected: bool,
    names: Vec<u8>,
    /// With the place of each name.
    found: Vec<(Node, usize, usize)>,
    left_out: LeftOut,
    hole_bytes: u64,
}

impl Walk<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes directory after directory until there is none left, or one fails.
    fn work(&self) {
        let mut buffer = vec![MaybeUninit::uninit(); LISTING_BYTES];
        let mut state = self.lock();
        loop {
            if state.failed.is_some() || (state.queue.is_empty() && state.busy == 0) {
                self.changed.notify_all();
                return;
            }
            let Some(id) = state.queue.pop() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.busy += 1;
            let path = state.tree.path(id);
            drop(state);
            let listing = self.list(&path, &mut buffer);
            state = self.lock();
            state.busy -= 1;
            if let Err(error) = listing.and_then(|listing| state.take(id, listing)) {
                state.failed = Some(error);
            }
            if state.queue.len() > 1 {
                self.changed.notify_all();
            }
        }
    }

    fn list(&self, path: &[u8], buffer: &mut [MaybeUninit<u8>]) -> io::Result<Listing> {
        let mut listing = Listing::default();
        let directory = match self.root.directory(path) {
            Ok(directory) => directory,
            // Removed, or replaced by something else, since its own directory was read.
            Err(error) if is_gone(&error) => return Ok(listing),
            Err(error) => return Err(error),
        };
        listing.marks(directory.as_fd())?;
        let mut entries = RawDir::new(&directory, buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                // The directory was removed while it was read.
                Err(Errno::NOENT) => break,
                Err(error) => return Err(error.into()),
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            match rustix::fs::statat(&directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => self.add(&mut listing, path, name, &stat),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let Listing { names, found, .. } = &mut listing;
        found.sort_unstable_by(|(_, at, end), (_, other_at, other_end)| {
            names[*at..*end].cmp(&names[*other_at..*other_end])
        });
        Ok(listing)
    }

    /// Takes one entry in, or says why not.
    fn add(&self, listing: &mut Listing, directory: &[u8], name: &[u8], stat: &Stat) {
        let path = || {
            let mut path = directory.to_vec();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            path
        };
        let node = kind_of(stat).map(|kind| node_of(stat, kind));
        let reason = match &node {
            _ if stat.st_dev != self.device => Some(Reason::OtherFileSystem),
            _ if name.starts_with(WHITEOUT_PREFIX) => Some(Reason::WhiteoutName),
            _ if directory.len() + 1 + name.len() > WALK_PATH_BYTES_MAX => Some(Reason::PathTooLong),
            None => Some(Reason::Socket),
            Some(node) => self.keep.leave_out(&path(), node),
        };
        match (node, reason) {
            (Some(node), None) => {
                let at = listing.names.len();
                listing.names.extend_from_slice(name);
                listing.found.push((node, at, listing.names.len()));
                if node.kind == Kind::File {
                    listing.hole_bytes += node.size.saturating_sub(stat.st_blocks as u64 * 512);
                }
            }
            (_, Some(reason)) => listing.left_out.add(path(), reason),
            (None, None) => {}
        }
    }
}

impl Listing {
    /// What overlayfs says of the directory itself.
    fn marks(&mut self, directory: BorrowedFd<'_>) -> io::Result<()> {
        let mut names = [0; 1024];
        let listed = match rustix::fs::flistxattr(directory, &mut names) {
            Ok(length) => &names[..length],
            Err(Errno::NOTSUP) => return Ok(()),
            // More than fits: ask for the one that matters.
            Err(Errno::RANGE) => OPAQUE_XATTR.as_bytes(),
            Err(error) => return Err(error.into()),
        };
        for name in listed.split(|b| *b == 0) {
            if name == OPAQUE_XATTR.as_bytes() {
                let mut value = [0; 8];
                let read = rustix::fs::fgetxattr(directory, OPAQUE_XATTR, &mut value);
                self.opaque = read.is_ok_and(|length| &value[..length] == b"y");
            } else if name == REDIRECT_XATTR {
                self.redirected = true;
            }
        }
        Ok(())
    }
}

impl State {
    /// Puts a directory's content into the tree, and its directories into the queue.
    fn take(&mut self, id: NodeId, listing: Listing) -> io::Result<()> {
        let Listing { opaque, redirected, names, found, left_out, hole_bytes } = listing;
        let tree = &mut self.tree;
        if opaque {
            tree.nodes[id as usize].kind = Kind::OpaqueDirectory;
        }
        tree.redirected |= redirected;
        tree.hole_bytes += hole_bytes;
        tree.left_out.count += left_out.count;
        let room = NAMED_MAX.saturating_sub(tree.left_out.named.len());
        tree.left_out.named.extend(left_out.named.into_iter().take(room));
        if u32::try_from(tree.nodes.len() + found.len()).is_err()
            || u32::try_from(tree.names.len() + names.len()).is_err()
        {
            return Err(io::Error::other("the tree has more entries than one image can hold"));
        }
        let children: Vec<_> = found.iter().map(|(node, at, end)| (*node, &names[*at..*end])).collect();
        let first = tree.append(id, &children);
        let directories = children.iter().enumerate().filter(|(_, (node, _))| node.kind.is_directory());
        self.queue.extend(directories.map(|(n, _)| first + n as NodeId));
        Ok(())
    }
}

/// Whether an error says that a path does not lead to a directory any more.
fn is_gone(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV))
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
