//! Caches by where they lie.

use super::{name_of, parent_of};
use mothball_domain::survey::CacheKind;

/// The cache that a directory is the root of.
pub(super) fn cache_at(path: &[u8]) -> Option<CacheKind> {
    let above = name_of(parent_of(path));
    match (above, name_of(path)) {
        (b".cache", b"pip") => Some(CacheKind::Pip),
        (b".cache", b"uv") => Some(CacheKind::Uv),
        (b".cache", b"go-build") => Some(CacheKind::Go),
        (b".cache", b"yarn") | (b".npm", b"_cacache") | (b"pnpm", b"store") => Some(CacheKind::Npm),
        (b"apt", b"archives") if path == b"var/cache/apt/archives" => Some(CacheKind::Apt),
        (b"apt", b"lists") if path == b"var/lib/apt/lists" => Some(CacheKind::AptLists),
        (above, b"pkgs") if is_conda(above) => Some(CacheKind::Conda),
        _ => None,
    }
}

/// Whether a directory of this name is an installation of conda, as its installers and its users call it.
fn is_conda(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 9] = [
        b"conda",
        b".conda",
        b"miniconda",
        b"miniconda3",
        b"anaconda",
        b"anaconda3",
        b"miniforge3",
        b"mambaforge",
        b"micromamba",
    ];
    NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_known_by_their_places() {
        for (path, kind) in [
            ("root/.cache/pip", Some(CacheKind::Pip)),
            ("home/ann/.cache/uv", Some(CacheKind::Uv)),
            ("opt/conda/pkgs", Some(CacheKind::Conda)),
            ("root/miniconda3/pkgs", Some(CacheKind::Conda)),
            ("var/cache/apt/archives", Some(CacheKind::Apt)),
            ("var/lib/apt/lists", Some(CacheKind::AptLists)),
            ("root/.npm/_cacache", Some(CacheKind::Npm)),
            ("srv/app/pkgs", None),
            ("pip", None),
            ("srv/var/lib/apt/lists", None),
            ("", None),
        ] {
            assert_eq!(cache_at(path.as_bytes()), kind, "{path}");
        }
    }
}
