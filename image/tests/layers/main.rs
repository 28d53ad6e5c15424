//! Writable layers read directly. The oracle is the kernel: what a container sees through overlayfs must be what one sees
//! through overlayfs over the layers that were saved, unpacked by GNU tar. Needs root.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails here ends the test")]

mod edits;
mod races;
mod rounds;
mod traps;
mod view;
mod world;
