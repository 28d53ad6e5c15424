//! The types of the OCI image specification and of Docker's manifest version 2, schema 2. What this
//! program does not know of is kept, so that rewriting loses nothing.

mod config;
mod manifest;
pub mod name;

pub use config::{ContainerConfig, History, ImageConfig, RootFs};
pub use manifest::{Content, Descriptor, ImageIndex, ImageManifest, Manifest, digest_of};

/// Media types.
pub mod media {
    /// An image's manifest, Docker's.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// An index of several manifests, Docker's.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// An image's config, Docker's.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// A layer that is not compressed, Docker's.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// A layer compressed by gzip, Docker's.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// An image's manifest, OCI's.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An index of several manifests, OCI's.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An image's config, OCI's.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A layer that is not compressed, OCI's.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A layer compressed by gzip, OCI's.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer compressed by zstd, OCI's.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

    /// All that a manifest may be. A registry converts, or says 404, when one is left out.
    pub const MANIFESTS: [&str; 4] = [DOCKER_MANIFEST, OCI_MANIFEST, DOCKER_LIST, OCI_INDEX];
}
