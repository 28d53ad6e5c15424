//! A container's file system as overlayfs makes it, and images saved of it.

use crate::view::{differences, view};
use mothball_domain::exclude::Exclude;
use mothball_image::layer::{Base, Index, LayerBlob, Root, Tree, walk};
use mothball_image::oci::digest_of;
use mothball_image::save::{
    ChangeSet, LayerSet, Limits, Rules, Sent, SliceReport, Source, layers_to_rewrite, record, slices_of_size,
};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// How a save goes.
#[derive(Debug, Clone)]
pub(crate) struct How {
    /// Layers that are rewritten whatever they hold, as bits.
    pub(crate) rewrite: u64,
    /// Slices that never reach the registry, as bits: the save died.
    pub(crate) lost: u64,
    /// Most slices, cut very small.
    pub(crate) slices_max: usize,
    /// Whether the index forgets that everything is younger than a tick: nothing is suspect.
    pub(crate) calm: bool,
    pub(crate) frozen: bool,
}

impl Default for How {
    fn default() -> Self {
        Self { rewrite: 0, lost: 0, slices_max: 1, calm: true, frozen: false }
    }
}

/// What a save sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) sent: Vec<String>,
    pub(crate) tars: Vec<Vec<u8>>,
    pub(crate) reports: Vec<SliceReport>,
    pub(crate) tree: Option<Arc<Tree>>,
}

pub(crate) struct World {
    dir: tempfile::TempDir,
    pub(crate) rules: Rules,
    pub(crate) limits: Option<Limits>,
    pub(crate) index: Option<Index>,
    last_sent: Vec<String>,
    /// Where layers are unpacked, by the digest of their tar.
    unpacked: HashMap<String, String>,
}

impl World {
    /// A container on this base.
    pub(crate) fn new(base: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::Builder::new().prefix("mothball-layers").tempdir().unwrap();
        for name in ["base", "upper", "work", "merged", "image", "layers"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        base(&dir.path().join("base"));
        let world = Self {
            dir,
            rules: Rules::new(&[]).unwrap(),
            limits: None,
            index: None,
            last_sent: Vec::new(),
            unpacked: HashMap::new(),
        };
        world.run("mount -t overlay overlay -o lowerdir=base,upperdir=upper,workdir=work merged");
        world
    }

    pub(crate) fn exclude(&mut self, patterns: &[&str]) {
        let patterns: Vec<_> = patterns.iter().map(|p| Exclude::new(*p).unwrap()).collect();
        self.rules = Rules::new(&patterns).unwrap();
    }

    pub(crate) fn at(&self, path: impl AsRef<OsStr>) -> PathBuf {
        self.dir.path().join("merged").join(Path::new(path.as_ref()))
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.dir.path().join("upper")
    }

    pub(crate) fn last_sent(&self) -> &[String] {
        &self.last_sent
    }

    /// Runs a line of shell in the world's directory.
    pub(crate) fn run(&self, line: &str) {
        let done = Command::new("sh").arg("-ec").arg(line).current_dir(self.dir.path()).output().unwrap();
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Saves, as the engine does: on top of what the index knows.
    pub(crate) fn save(&mut self, how: &How) -> Outcome {
        self.save_with(how, &|_| ())
    }

    /// Saves; `between` is called after the walk, before anything is read.
    pub(crate) fn save_with(&mut self, how: &How, between: &dyn Fn(&Path)) -> Outcome {
        let root = Arc::new(Root::open(&self.upper()).unwrap());
        let mut tree = walk(&root, &self.rules).unwrap();
        if how.calm {
            tree.walked_at_nanos += 3_600_000_000_000;
        }
        let tree = Arc::new(tree);
        let changes = Arc::new(self.changes(&tree, how));
        let slices = slices_of_size(&tree, &changes, how.slices_max, 2048);
        between(&self.at(""));
        let source = Source { root, tree: tree.clone(), changes: changes.clone() };
        let mut outcome = Outcome { tree: Some(tree.clone()), ..Outcome::default() };
        let mut sent = Vec::new();
        for (n, slice) in slices.into_iter().enumerate() {
            let mut bytes = Vec::new();
            let report = source.write_slice(&slice, &mut bytes, &|_| ()).unwrap();
            outcome.reports.push(report.clone());
            if how.lost & (1 << n) != 0 {
                continue;
            }
            outcome.sent.extend(tar_names(&bytes));
            let blob = self.unpack(&bytes);
            outcome.tars.push(bytes);
            sent.push(Sent { slice: Arc::new(slice), report, blob });
        }
        let base = Base { image_id: "base".to_owned(), diff_ids: Vec::new() };
        let last = self.index.as_ref();
        let index = record(last, &base, self.rules.fingerprint(), &tree, &changes, &sent, how.frozen);
        let file = self.dir.path().join("index");
        index.save(&file).unwrap();
        self.index = Some(Index::load(&file).unwrap());
        self.last_sent.clone_from(&outcome.sent);
        outcome
    }

    fn changes(&self, tree: &Tree, how: &How) -> ChangeSet {
        let Some(last) = &self.index else { return ChangeSet::full(tree) };
        let mut rewrite: LayerSet =
            (0..last.layers.len().min(64) as u16).filter(|n| how.rewrite & (1 << n) != 0).collect();
        rewrite.extend(self.rules.layers_to_drop(last, tree));
        match self.limits {
            Some(limits) => layers_to_rewrite(last, tree, rewrite, limits).1,
            None => ChangeSet::between(tree, Some(last), &rewrite),
        }
    }

    fn unpack(&mut self, tar: &[u8]) -> LayerBlob {
        let digest = digest_of(tar);
        let name = format!("layers/{}", self.unpacked.len());
        if !self.unpacked.contains_key(digest.as_str()) {
            let full = self.dir.path().join(&name);
            fs::create_dir(&full).unwrap();
            unpack(tar, &full);
            self.unpacked.insert(digest.as_str().to_owned(), name);
        }
        let size = tar.len() as u64;
        let media_type = "application/vnd.oci.image.layer.v1.tar".to_owned();
        LayerBlob { digest: digest.clone(), size, diff_id: digest, media_type, raw_bytes: size }
    }

    /// Where the layers of the saved image are unpacked, oldest first.
    pub(crate) fn layers(&self) -> Vec<PathBuf> {
        let index = self.index.as_ref().unwrap();
        let at = |blob: &LayerBlob| self.dir.path().join(&self.unpacked[blob.diff_id.as_str()]);
        index.layers.iter().map(at).collect()
    }

    /// Mounts the saved image, and hands it over for a look.
    pub(crate) fn with_image<T>(&self, look: impl FnOnce(&Path) -> T) -> T {
        let index = self.index.as_ref().unwrap();
        let above = index.layers.iter().rev().map(|blob| self.unpacked[blob.diff_id.as_str()].as_str());
        // Overlayfs refuses one directory twice; the same tar twice is the same layer, and the upper one counts.
        let mut lower: Vec<&str> = Vec::new();
        above.chain(["base", "work"]).for_each(|name| {
            if !lower.contains(&name) {
                lower.push(name);
            }
        });
        lower.pop();
        // Overlayfs wants two lower directories or an upper one.
        fs::create_dir_all(self.dir.path().join("layers/none")).unwrap();
        if lower.len() == 1 {
            lower.push("layers/none");
        }
        self.run(&format!("mount -t overlay overlay -o ro,lowerdir={} image", lower.join(":")));
        let result = look(&self.dir.path().join("image"));
        self.run("umount image");
        result
    }

    /// What is different between the container and the image that was saved of it.
    pub(crate) fn differences(&self) -> Vec<String> {
        let container = view(&self.at(""));
        self.with_image(|image| differences(&container, &view(image)))
    }
}

/// The names in a directory, sorted.
pub(crate) fn view_of(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = Command::new("sh")
            .args(["-c", "umount image 2>/dev/null; umount merged; rm -rf work"])
            .current_dir(self.dir.path())
            .status();
    }
}

/// Unpacks with GNU tar, then turns whiteouts and opaque marks into those of overlayfs.
fn unpack(tar: &[u8], into: &Path) {
    // No file system has a name that is longer than its own whiteout's.
    let too_long = format!("--exclude=.wh.{}*", "?".repeat(252));
    let mut child = Command::new("tar")
        .arg(too_long)
        .args([
            "--xattrs",
            "--xattrs-include=*",
            "--warning=no-timestamp",
            "--numeric-owner",
            "--same-owner",
            "-xpf",
            "-",
            "-C",
        ])
        .arg(into)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(tar).unwrap();
    let done = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && words.is_empty(), "{words}");
    convert(into);
}

fn convert(directory: &Path) {
    let times = fs::metadata(directory).unwrap();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if entry.file_type().unwrap().is_dir() {
            convert(&entry.path());
        } else if name.as_bytes() == b".wh..wh..opq" {
            fs::remove_file(entry.path()).unwrap();
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(directory, "trusted.overlay.opaque", b"y", flags).unwrap();
        } else if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            fs::remove_file(entry.path()).unwrap();
            let mode = rustix::fs::Mode::empty();
            let hidden = directory.join(OsStr::from_bytes(hidden));
            rustix::fs::mknodat(rustix::fs::CWD, &hidden, rustix::fs::FileType::CharacterDevice, mode, 0)
                .unwrap();
        }
    }
    let file = fs::File::open(directory).unwrap();
    file.set_modified(times.modified().unwrap()).unwrap();
}

/// The names in a tar, as GNU tar lists them.
pub(crate) fn tar_names(tar: &[u8]) -> Vec<String> {
    let mut child = Command::new("tar")
        .args(["--quoting-style=literal", "-tf", "-"])
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, bytes) = (child.stdin.take().unwrap(), tar.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let done = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect()
}
