//! The words of Mothball, and the pure rules between them: no I/O, no clock, no random numbers.
//!
//! | room | what is in it |
//! |---|---|
//! | [`name`] | names people choose, and their bounds |
//! | [`id`] | identifiers that machines make |
//! | [`image`] | image references, digests, image records |
//! | [`job`] | a job, its specification, steps, checkpoint, progress and history |
//! | [`state`] | the job state machine: one pure total function |
//! | [`exclude`] | what a save leaves out: patterns over paths |
//! | [`failure`] | what can go wrong, in classes a person understands |
//! | [`retry`] | how long to wait before the next attempt or the next wake-up |
//! | [`container`] | a container, how it was launched, what it has cost |
//! | [`label`] | labels of containers, and selectors that choose by them |
//! | [`schedule`] | what is done to containers by the clock, and when |
//! | [`flavor`] | sizes of containers and their price |
//! | [`notice`] | what people and programs are told of, in which words, and how it arrives |
//! | [`node`] | a node, its GPUs, what its worker reports |
//! | [`placement`] | which node a launch goes to |
//! | [`people`] | projects, users, roles, keys, and who may do what |
//! | [`usage`] | what a container uses, and for how long it has been idle |
//! | [`policy`] | what a project lets Mothball do by itself: warn, wait, park |
//! | [`undo`] | what can be brought back: overwritten digests and deleted images, and until when |
//! | [`retention`] | which images a project lets go: the last of each name stay, and what is used |
//! | [`billing`] | exact decimal arithmetic of what a container has cost |
//! | [`survey`] | a look at a container before a save |
//! | [`size`] | byte sizes as people write them |

pub mod billing;
pub mod container;
pub mod exclude;
pub mod failure;
pub mod flavor;
pub mod id;
pub mod image;
pub mod job;
pub mod label;
pub mod name;
pub mod node;
pub mod notice;
pub mod people;
pub mod placement;
pub mod policy;
pub mod retention;
pub mod retry;
pub mod schedule;
pub mod size;
pub mod state;
pub mod survey;
pub mod undo;
pub mod usage;
