//! A survey: a look at a container before any work, so that its owner can be told in words what a save would mean. It freezes
//! nothing, changes nothing, and is no job.

pub mod words;

use crate::exclude::Exclude;
use crate::failure::Failure;
use crate::id::{ContainerId, SurveyId};
use crate::name::{NodeName, UserName};
use crate::node::SnapshotWay;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A survey, as the store keeps it for a short while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// Its id, which its wake-up carries.
    pub id: SurveyId,
    /// What is looked at.
    pub container: ContainerId,
    /// The node whose worker looks.
    pub node: NodeName,
    /// Who asked.
    pub user: UserName,
    /// What the save would leave out.
    pub excludes: Vec<Exclude>,
    /// How long the look may take, in milliseconds. What is not counted by then is said to be more.
    pub limit_ms: u64,
    /// When it was asked for, by the store's clock.
    pub asked_at: Timestamp,
    /// The run of the worker that took it.
    pub taken_by: Option<String>,
    /// What came of it; none while it is under way.
    pub outcome: Option<SurveyOutcome>,
}

/// What came of a survey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SurveyOutcome {
    /// What the node sees.
    Report(Box<SurveyReport>),
    /// Why it cannot be seen.
    Failed(Failure),
}

/// What a node sees of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SurveyReport {
    /// How the node would save it.
    pub way: SnapshotWay,
    /// Why it would save it so, in a sentence.
    pub way_reason: String,
    /// Bytes in its writable layer, as far as they were counted in time.
    pub writable_bytes: Option<u64>,
    /// What is in the writable layer; none where it cannot be read from the worker.
    pub layer: Option<LayerReport>,
    /// What is mounted into it, none of which is saved.
    pub mounts: Vec<MountReport>,
    /// Installed packages that lie in mounts, and so are not saved.
    pub package_trees: Vec<PackageTree>,
    /// What the last save left in the registry that this one need not send again.
    pub reuse: Option<Reuse>,
    /// Free bytes on the disk of Docker's data root, and those that the save takes meanwhile.
    pub disk: Option<DiskReport>,
    /// Whether the registry answers the node, in its own words if not.
    pub registry: RegistryReport,
    /// Layers of the image.
    pub layers: Option<LayersReport>,
    /// How long the save would take.
    pub expected: Option<Expected>,
    /// What stands in the way, in sentences.
    pub problems: Vec<String>,
}

/// What is in a writable layer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LayerReport {
    /// Bytes of its files, without what is left out.
    pub bytes: u64,
    /// Its entries: files, directories, links, and what was deleted from the image below.
    pub entries: u64,
    /// Entries that say that something of the image below was deleted.
    pub deleted: u64,
    /// Bytes that the patterns leave out.
    pub excluded_bytes: u64,
    /// Whether all of it was counted in time.
    pub complete: bool,
    /// Its largest directories with all that is below them, largest first, at most [`LARGEST_MAX`].
    pub largest_directories: Vec<Weight>,
    /// Its largest files, largest first, at most [`LARGEST_MAX`].
    pub largest_files: Vec<Weight>,
    /// Files that look like secrets, at most [`SECRETS_MAX`].
    pub secrets: Vec<SecretLike>,
    /// Files that look like secrets and that the list has no room for.
    pub secrets_more: u64,
    /// Whether every file that could hold one was looked into.
    pub secrets_complete: bool,
    /// Caches that a save needs not carry, largest first, at most [`LARGEST_MAX`].
    pub caches: Vec<Cache>,
}

/// Most directories, files and caches named.
pub const LARGEST_MAX: usize = 10;
/// Most files named that look like secrets.
pub const SECRETS_MAX: usize = 50;
/// Most trees of packages named.
pub const TREES_MAX: usize = 20;

/// A path of the container and what lies there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    /// The path in the container.
    pub path: String,
    /// Bytes.
    pub bytes: u64,
    /// Entries; 1 for a file.
    pub entries: u64,
}

/// A file that looks like a secret. What it holds is never repeated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SecretLike {
    /// The path in the container.
    pub path: String,
    /// What it looks like.
    pub kind: SecretKind,
}

macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal, $words:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The kind as it stands in JSON.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The kind in words.
            pub fn words(self) -> &'static str {
                match self { $(Self::$variant => $words,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.words())
            }
        }
    };
}

kinds! {
    /// What a file looks like that looks like a secret.
    SecretKind {
        /// A private key.
        PrivateKey = "private_key", "private key";
        /// A key of Amazon Web Services.
        Aws = "aws", "AWS credentials";
        /// A key of Google Cloud.
        Gcp = "gcp", "Google Cloud credentials";
        /// A key of Azure.
        Azure = "azure", "Azure credentials";
        /// A token of GitHub or GitLab.
        GitToken = "git_token", "GitHub or GitLab token";
        /// A token of Hugging Face.
        HuggingFace = "hugging_face", "Hugging Face token";
        /// A token or web hook of Slack.
        Slack = "slack", "Slack token";
        /// A key of a model's API.
        ModelApi = "model_api", "API key of a model provider";
        /// Names and passwords for machines.
        Netrc = "netrc", "logins (.netrc)";
        /// Names and passwords for git.
        GitCredentials = "git_credentials", "git credentials";
        /// Logins of registries.
        DockerLogin = "docker_login", "registry logins of Docker";
        /// Access to a cluster.
        Kubeconfig = "kubeconfig", "access to a Kubernetes cluster";
        /// A login of a package index.
        PackageIndex = "package_index", "login of a package index";
        /// Passwords of databases.
        Database = "database", "database passwords";
        /// Another well-known service's credentials.
        Service = "service", "credentials of a service";
        /// Variables that programs read their secrets from.
        Environment = "environment", "environment file";
        /// What was typed.
        History = "history", "shell history";
        /// What the operator named.
        Listed = "listed", "named by the operator";
    }
}

kinds! {
    /// What filled a cache.
    CacheKind {
        /// pip's downloads and built wheels.
        Pip = "pip", "pip";
        /// conda's packages.
        Conda = "conda", "conda";
        /// apt's packages.
        Apt = "apt", "apt packages";
        /// apt's lists of packages.
        AptLists = "apt_lists", "apt lists";
        /// npm's, yarn's and pnpm's packages.
        Npm = "npm", "npm";
        /// uv's packages.
        Uv = "uv", "uv";
        /// What Go compiled.
        Go = "go", "go build";
    }
}

impl CacheKind {
    /// The command that empties it.
    pub fn cleaned_by(self) -> &'static str {
        match self {
            Self::Pip => "pip cache purge",
            Self::Conda => "conda clean --all --yes",
            Self::Apt => "apt-get clean",
            Self::AptLists => "rm -rf /var/lib/apt/lists/*",
            Self::Npm => "npm cache clean --force",
            Self::Uv => "uv cache clean",
            Self::Go => "go clean -cache",
        }
    }
}

kinds! {
    /// What installed a tree of packages.
    TreeKind {
        /// A virtual environment or `site-packages`.
        Python = "python", "Python packages";
        /// An environment of conda.
        Conda = "conda", "conda environment";
        /// `node_modules`.
        Npm = "npm", "npm packages";
    }
}

/// A cache in the writable layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// The path in the container.
    pub path: String,
    /// What filled it.
    pub kind: CacheKind,
    /// Bytes that cleaning it frees.
    pub bytes: u64,
}

/// Installed packages that lie in a mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageTree {
    /// The path in the container.
    pub path: String,
    /// What installed them.
    pub kind: TreeKind,
    /// The mount they lie in.
    pub mount: String,
}

/// What a mount of a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountedAs {
    /// A path of the node.
    Bind,
    /// A volume that somebody named.
    Volume,
    /// A volume that nobody named: it is lost with its container.
    AnonymousVolume,
    /// Memory.
    Memory,
}

/// A mount of a container: never saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountReport {
    /// Where it appears in the container.
    pub target: String,
    /// What it is.
    pub mounted_as: MountedAs,
    /// Bytes of its files; none where they could not be counted.
    pub bytes: Option<u64>,
    /// Whether all of them were counted in time.
    pub complete: bool,
}

/// What need not be sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reuse {
    /// Bytes of the writable layer that the registry has from the last save.
    pub bytes: u64,
    /// Bytes that changed since.
    pub changed_bytes: u64,
}

/// Disk of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    /// Free bytes.
    pub free_bytes: u64,
    /// Bytes that the save takes meanwhile.
    pub needed_bytes: u64,
}

/// The registry, as the node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RegistryReport {
    /// Whether it answers.
    pub reachable: bool,
    /// Why it does not, in a sentence.
    pub problem: Option<String>,
}

/// Layers of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayersReport {
    /// Of the image that the container was made from.
    pub now: u32,
    /// Of the image that the save would make, at least.
    pub after: u32,
    /// The most that Docker can run.
    pub most: u32,
}

/// Most layers that Docker can run.
pub const LAYERS_MAX: u32 = 127;

/// How long a save would take, by what this node's own saves took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Seconds.
    pub seconds: u64,
    /// Saves that this is taken from.
    pub saves: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_names_that_serde_gives_them_and_words() {
        for kind in SecretKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert!(!kind.words().is_empty());
        }
        for kind in CacheKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert!(!kind.cleaned_by().is_empty());
        }
        for kind in TreeKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
