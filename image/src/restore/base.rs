//! The base image below a tree: which of the tree's whiteouts and opaque marks mean anything there.
//!
//! A whiteout of a name that the base does not show is no deletion but litter: in a directory that only the upper layer
//! has, overlayfs shows it as an entry that nobody can look at or remove. So a whiteout stays only where the merged base
//! shows its name, an opaque mark only where the base has a directory, and neither inside of a directory that is opaque or
//! that the base does not have.

use super::dirs::{mtime, times};
use super::error::{RestoreError, at};
use super::place;
use crate::layer::untar::name::{join, shown};
use rustix::fs::{AtFlags, FileType};
use rustix::io::{Errno, Result};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// The layers of the base, topmost first, as overlayfs is given them.
#[derive(Debug)]
pub(super) struct Base {
    layers: Vec<OwnedFd>,
}

/// A directory of the tree, and the layers of the base that are seen in it.
struct Visit {
    path: Vec<u8>,
    seen: Vec<usize>,
}

/// What the base shows under a name.
enum Below {
    Nothing,
    Entry,
    /// A directory, merged from these layers.
    Directory(Vec<usize>),
}

impl Base {
    /// Opens the base's layers.
    pub(super) fn open(lower: &[PathBuf]) -> std::result::Result<Self, RestoreError> {
        let open = |path: &PathBuf| {
            place::root(path).map_err(at(|| format!("open the base layer {}", path.display())))
        };
        Ok(Self { layers: lower.iter().map(open).collect::<std::result::Result<_, _>>()? })
    }

    /// Takes out of a tree the marks that mean nothing above this base.
    pub(super) fn prune(
        &self,
        tree: &OwnedFd,
        stop: &CancellationToken,
    ) -> std::result::Result<(), RestoreError> {
        let mut visits = vec![Visit { path: Vec::new(), seen: (0..self.layers.len()).collect() }];
        while let Some(visit) = visits.pop() {
            if stop.is_cancelled() {
                return Err(RestoreError::Cancelled);
            }
            self.visit(tree, &visit, &mut visits)
                .map_err(at(|| format!("compare {:?} with the base image", shown(&visit.path))))?;
        }
        Ok(())
    }

    fn visit(&self, tree: &OwnedFd, visit: &Visit, visits: &mut Vec<Visit>) -> Result<()> {
        let directory = place::open(tree, &visit.path)?;
        let before = mtime(&rustix::fs::fstat(&directory)?);
        let base: Vec<(usize, OwnedFd)> = visit
            .seen
            .iter()
            .map(|layer| Ok((*layer, place::open(&self.layers[*layer], &visit.path)?)))
            .collect::<Result<_>>()?;
        let mut changed = false;
        for entry in place::list(&directory)? {
            let name = entry.name.to_bytes();
            match entry.kind {
                FileType::CharacterDevice => {
                    let whiteout =
                        place::look(&directory, name)?.is_some_and(|stat| place::is_whiteout(&stat));
                    if whiteout && matches!(below(&base, name)?, Below::Nothing) {
                        rustix::fs::unlinkat(&directory, name, AtFlags::empty())?;
                        changed = true;
                    }
                }
                FileType::Directory => {
                    let mut seen = match below(&base, name)? {
                        Below::Directory(layers) => layers,
                        Below::Nothing | Below::Entry => Vec::new(),
                    };
                    let child = place::open(&directory, name)?;
                    if place::is_opaque(&child)? {
                        if seen.is_empty() {
                            place::set_opaque(&child, false)?;
                        }
                        seen.clear();
                    }
                    visits.push(Visit { path: join(&visit.path, name), seen });
                }
                _ => {}
            }
        }
        if changed { rustix::fs::futimens(&directory, &times(before)) } else { Ok(()) }
    }
}

/// What these directories, laid over each other, show under a name.
fn below(base: &[(usize, OwnedFd)], name: &[u8]) -> Result<Below> {
    let mut layers = Vec::new();
    for (layer, directory) in base {
        let Some(stat) = place::look(directory, name)? else { continue };
        if !place::is_dir(&stat) {
            // It hides what lies below it, and a directory above hides it.
            let shown = layers.is_empty() && !place::is_whiteout(&stat);
            return Ok(if shown { Below::Entry } else { directory_or_nothing(layers) });
        }
        layers.push(*layer);
        match place::open(directory, name).and_then(place::is_opaque) {
            Ok(true) => break,
            Ok(false) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(directory_or_nothing(layers))
}

fn directory_or_nothing(layers: Vec<usize>) -> Below {
    if layers.is_empty() { Below::Nothing } else { Below::Directory(layers) }
}
