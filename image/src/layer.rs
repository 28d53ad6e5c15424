//! The words of the direct engine: what a layer holds, both ways.
//!
//! | room | what is in it |
//! |---|---|
//! | [`entry`] | one entry of a layer, as its tar has it |
//! | [`tree`] | a whole tree as one walk saw it, about 80 bytes an entry |
//! | [`walk`] | how a tree is looked at |
//! | [`untar`] | a layer's tar read back, whoever wrote it |
//! | [`root`] | how files are opened without ever leaving the tree |
//! | [`tar`] | entries as tar |
//! | [`index`] | what a saved image holds and in which layer: what makes the next save a small one |

pub mod entry;
pub mod index;
pub mod root;
pub mod tar;
pub mod tree;
pub mod untar;
pub mod walk;

pub use entry::{Device, Entry, Meta, Timestamp, What, Xattr};
pub use index::{Base, Index, LayerBlob};
pub use root::Root;
pub use tree::{Kind, Node, Tree};
pub use untar::{Untar, UntarError};
pub use walk::{LeftOut, Reason, walk};
