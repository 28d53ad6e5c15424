//! The names of a layer's entries: cleaned, or refused.

use crate::layer::entry::{OPAQUE_NAME, PATH_BYTES_MAX, WHITEOUT_PREFIX};

/// What aufs kept for itself in the layers of its time; no other driver reads it.
const AUFS: &[u8] = b".wh..wh.";

/// What the name of an entry means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// An entry at this path; the empty path is the layer's root.
    Entry(Vec<u8>),
    /// What earlier layers have at this path is gone.
    Whiteout(Vec<u8>),
    /// What earlier layers have in this directory is gone.
    Opaque(Vec<u8>),
    /// Nothing.
    Nothing,
}

/// A path without empty and `.` parts and relative to the layer's root, as Docker takes it. One with `..` is refused:
/// nothing that packs a layer writes it.
pub(crate) fn clean(path: &[u8]) -> Result<Vec<u8>, String> {
    if path.len() > PATH_BYTES_MAX {
        return Err(format!("a name of {} bytes", path.len()));
    }
    let mut clean = Vec::with_capacity(path.len());
    for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".") {
        if part == b".." {
            return Err("it leads out of its directory".to_owned());
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(part);
    }
    Ok(clean)
}

/// What an entry's name means.
pub(crate) fn meaning(path: &[u8]) -> Result<Meaning, String> {
    let path = clean(path)?;
    let (parent, name) = split(&path);
    if name == OPAQUE_NAME {
        return if parent.is_empty() {
            Err("it hides the whole image below it".to_owned())
        } else {
            Ok(Meaning::Opaque(parent.to_vec()))
        };
    }
    if path.split(|b| *b == b'/').any(|part| part.starts_with(AUFS)) {
        return Ok(Meaning::Nothing);
    }
    if parent.split(|b| *b == b'/').any(|part| part.starts_with(WHITEOUT_PREFIX)) {
        return Err("it is inside of something deleted".to_owned());
    }
    match name.strip_prefix(WHITEOUT_PREFIX) {
        None => Ok(Meaning::Entry(path)),
        Some(b"" | b"." | b"..") => Err("it deletes no name".to_owned()),
        Some(gone) => Ok(Meaning::Whiteout(join(parent, gone))),
    }
}

/// The path of an entry in a directory.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// A path's directory and its last part.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// A path in a sentence.
pub(crate) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_as_docker_cleans_them() {
        for (path, clean) in
            [("./a//b/./c/", "a/b/c"), ("/etc/passwd", "etc/passwd"), (".", ""), ("./", ""), ("...", "...")]
        {
            assert_eq!(super::clean(path.as_bytes()).unwrap(), clean.as_bytes(), "{path}");
        }
        for path in ["..", "a/../../b", "a/..", "/../x", &"a/".repeat(2048)] {
            assert!(clean(path.as_bytes()).is_err(), "{path}");
        }
    }

    #[test]
    fn deletions_are_told_from_entries() {
        let bytes = |text: &str| text.as_bytes().to_vec();
        for (path, wanted) in [
            ("a/b", Meaning::Entry(bytes("a/b"))),
            ("a/.wh.b", Meaning::Whiteout(bytes("a/b"))),
            (".wh.b", Meaning::Whiteout(bytes("b"))),
            (".wh..wh", Meaning::Whiteout(bytes(".wh"))),
            ("a/.wh..wh..opq", Meaning::Opaque(bytes("a"))),
            (".wh..wh.plnk/1.2", Meaning::Nothing),
            (".wh..wh.aufs", Meaning::Nothing),
            ("a/.whatever", Meaning::Entry(bytes("a/.whatever"))),
        ] {
            assert_eq!(meaning(path.as_bytes()), Ok(wanted), "{path}");
        }
        for path in ["a/.wh.", "a/.wh...", "a/.wh..", ".wh.a/b", ".wh..wh..opq", ".wh.a/.wh.b"] {
            assert!(meaning(path.as_bytes()).is_err(), "{path}");
        }
    }
}
