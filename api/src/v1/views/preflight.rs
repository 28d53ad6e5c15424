//! What a save would mean, said before any work, as JSON.

use super::schemas;
use mothball_domain::id::ContainerId;
use mothball_domain::node::SnapshotWay;
use mothball_domain::survey::{
    Cache, DiskReport, Expected, LayersReport, MountReport, MountedAs, PackageTree, RegistryReport, Reuse,
    SecretLike, Weight,
};
use mothball_store::QuotaUse;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a save would mean. What only the node can see is null, or empty, where the container is on none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, with a name in JSON")]
pub struct Preflight {
    /// The container.
    #[schema(value_type = u64)]
    pub container: ContainerId,
    /// The image it would become, as `name:tag`.
    pub image: String,
    /// Whether the save can go ahead as things stand.
    pub possible: bool,
    /// Whether an image of that name and tag is overwritten.
    pub overwrites: bool,
    /// Bytes in the writable layer.
    pub writable_bytes: Option<u64>,
    /// Targets of mounts whose content will not be saved.
    pub mounts_not_saved: Vec<String>,
    /// The node.
    pub node: Option<String>,
    /// Whether its worker reported lately.
    pub node_alive: bool,
    /// Free bytes on the node's Docker disk.
    pub node_disk_free_bytes: Option<u64>,
    /// How the node saves it.
    #[schema(schema_with = schemas::way)]
    pub way: Option<SnapshotWay>,
    /// What stands in the way, in sentences; empty when it is possible.
    pub problems: Vec<String>,
    /// What the owner should know, in sentences.
    pub notes: Vec<String>,
    /// What the owner should think about first, in sentences: secrets, caches, very large files, packages in mounts.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Why it is saved that way.
    #[serde(default)]
    pub way_reason: Option<String>,
    /// Bytes that would be saved, without what is left out.
    #[serde(default)]
    pub bytes_to_save: Option<u64>,
    /// Entries that would be saved: files, directories, links, deletions.
    #[serde(default)]
    pub entries: Option<u64>,
    /// Whether all of the layer was counted in time; what was not is missing from every number.
    #[serde(default)]
    pub counted_completely: bool,
    /// The largest directories with all below them, at most 10, largest first.
    #[serde(default)]
    pub largest_directories: Vec<WeightView>,
    /// The largest files, at most 10, largest first.
    #[serde(default)]
    pub largest_files: Vec<WeightView>,
    /// What is left out.
    #[serde(default)]
    pub excludes: Vec<String>,
    /// Bytes that are left out.
    #[serde(default)]
    pub excluded_bytes: Option<u64>,
    /// Mounts and volumes, none of which is saved.
    #[serde(default)]
    pub mounts: Vec<MountView>,
    /// Installed packages that lie in mounts, and so are not saved.
    #[serde(default)]
    pub package_trees: Vec<PackageTreeView>,
    /// Files that look like secrets, at most 50. What they hold is never shown.
    #[serde(default)]
    pub secrets: Vec<SecretView>,
    /// Files that look like secrets beyond those.
    #[serde(default)]
    pub secrets_more: u64,
    /// Whether every file that could hold a secret was looked into.
    #[serde(default)]
    pub secrets_complete: bool,
    /// Caches that the image need not carry, at most 10, largest first.
    #[serde(default)]
    pub caches: Vec<CacheView>,
    /// What the last save left that need not be sent again; null where everything is.
    #[serde(default)]
    pub reuse: Option<ReuseView>,
    /// The node's disk.
    #[serde(default)]
    pub disk: Option<DiskView>,
    /// The registry, as the node sees it.
    #[serde(default)]
    pub registry: Option<RegistryView>,
    /// The project's quota; null where it has none.
    #[serde(default)]
    pub quota: Option<QuotaView>,
    /// Layers of the image.
    #[serde(default)]
    pub layers: Option<LayersView>,
    /// How long the save would take; null while this node has saved nothing comparable.
    #[serde(default)]
    pub expected: Option<ExpectedView>,
}

/// A path of the container and what lies there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Weight)]
pub struct WeightView {
    /// The path.
    pub path: String,
    /// Bytes.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

/// A mount of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Mount)]
pub struct MountView {
    /// Where it appears in the container.
    pub target: String,
    /// `bind`, `volume`, `anonymous_volume` (lost with its container) or `memory`.
    #[schema(value_type = String)]
    pub kind: MountedAs,
    /// Bytes of its files; null where they could not be counted.
    pub bytes: Option<u64>,
    /// Whether all were counted in time; if not, there are more.
    pub complete: bool,
}

/// Installed packages in a mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = PackageTree)]
pub struct PackageTreeView {
    /// The path.
    pub path: String,
    /// `python`, `conda` or `npm`.
    pub kind: String,
    /// The mount it lies in.
    pub mount: String,
}

/// A file that looks like a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Secret)]
pub struct SecretView {
    /// The path.
    pub path: String,
    /// What it looks like: `private_key`, `aws`, `history`, …
    pub kind: String,
    /// The same in words.
    pub words: String,
}

/// A cache that the image need not carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Cache)]
pub struct CacheView {
    /// The path.
    pub path: String,
    /// `pip`, `conda`, `apt`, …
    pub kind: String,
    /// Bytes that cleaning it frees.
    pub bytes: u64,
    /// The command that cleans it.
    pub cleaned_by: String,
}

/// What need not be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Reuse)]
pub struct ReuseView {
    /// Bytes of the layer that the registry has from the last save.
    pub bytes: u64,
    /// Bytes that changed since.
    pub changed_bytes: u64,
}

/// The node's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Disk)]
pub struct DiskView {
    /// Free bytes.
    pub free_bytes: u64,
    /// Bytes that the save takes there meanwhile.
    pub needed_bytes: u64,
}

/// The registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = RegistryReach)]
pub struct RegistryView {
    /// Whether it answers the node.
    pub reachable: bool,
    /// Why not, in a sentence.
    pub problem: Option<String>,
}

/// The project's quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Quota)]
pub struct QuotaView {
    /// Images that the project has.
    pub images: u64,
    /// Most images; null for no limit.
    pub images_most: Option<u32>,
    /// Bytes of them in the registry; 0 where bytes have no limit.
    pub bytes: u64,
    /// Most bytes; null for no limit.
    pub bytes_most: Option<u64>,
}

/// Layers of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Layers)]
pub struct LayersView {
    /// Of the image that the container was made from.
    pub now: u32,
    /// Of the image that the save would make, at least.
    pub after: u32,
    /// The most that Docker runs.
    pub most: u32,
}

/// How long the save would take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ExpectedTime)]
pub struct ExpectedView {
    /// Seconds.
    pub seconds: u64,
    /// The same in words: "about 40 s".
    pub words: String,
    /// Saves of this node that it is taken from.
    pub saves: u32,
}

impl From<Weight> for WeightView {
    fn from(w: Weight) -> Self {
        Self { path: w.path, bytes: w.bytes, entries: w.entries }
    }
}

impl From<MountReport> for MountView {
    fn from(m: MountReport) -> Self {
        Self { target: m.target, kind: m.mounted_as, bytes: m.bytes, complete: m.complete }
    }
}

impl From<PackageTree> for PackageTreeView {
    fn from(t: PackageTree) -> Self {
        Self { path: t.path, kind: t.kind.as_str().to_owned(), mount: t.mount }
    }
}

impl From<SecretLike> for SecretView {
    fn from(s: SecretLike) -> Self {
        Self { path: s.path, kind: s.kind.as_str().to_owned(), words: s.kind.words().to_owned() }
    }
}

impl From<Cache> for CacheView {
    fn from(c: Cache) -> Self {
        let (kind, cleaned_by) = (c.kind.as_str().to_owned(), c.kind.cleaned_by().to_owned());
        Self { path: c.path, kind, bytes: c.bytes, cleaned_by }
    }
}

impl From<Reuse> for ReuseView {
    fn from(r: Reuse) -> Self {
        Self { bytes: r.bytes, changed_bytes: r.changed_bytes }
    }
}

impl From<DiskReport> for DiskView {
    fn from(d: DiskReport) -> Self {
        Self { free_bytes: d.free_bytes, needed_bytes: d.needed_bytes }
    }
}

impl From<RegistryReport> for RegistryView {
    fn from(r: RegistryReport) -> Self {
        Self { reachable: r.reachable, problem: r.problem }
    }
}

impl From<QuotaUse> for QuotaView {
    fn from(q: QuotaUse) -> Self {
        Self { images: q.images, images_most: q.images_most, bytes: q.bytes, bytes_most: q.bytes_most }
    }
}

impl From<LayersReport> for LayersView {
    fn from(l: LayersReport) -> Self {
        Self { now: l.now, after: l.after, most: l.most }
    }
}

impl From<Expected> for ExpectedView {
    fn from(e: Expected) -> Self {
        let words = mothball_domain::survey::words::about(e.seconds);
        Self { seconds: e.seconds, words, saves: e.saves }
    }
}
