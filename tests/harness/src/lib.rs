//! Private servers for tests: each with its own ports, sockets and data directory, and gone without a trace when dropped,
//! also when the test process is killed (see [`keeper`]).
//!
//! Nothing is mocked and nothing is skipped: a program that is missing is an error that names the Debian package.
//!
//! | room | what is in it |
//! |---|---|
//! | [`system`] | whole set-ups on either pair of queue and store; where a suite begins |
//! | [`mothball`], [`http`] | the product as a process, its command line and its API |
//! | [`dockerd`], [`busybox`], [`tree`] | an engine, a base image, and what a container's file system holds |
//! | [`layer`] | layers by hand, and what overlayfs makes of them |
//! | [`registry`], [`rabbitmq`], [`redis`] | the other servers |
//! | [`receiver`], [`mailbox`] | who is told of things: a program, and a mail server |
//! | [`proxy`] | faults on the way between any two of them |
//! | [`clock`] | a wall clock that a test moves |
//! | [`wait`] | predicates with a deadline: the one place where a timer ticks |
//! | [`place`], [`keeper`], [`process`], [`claim`], [`command`] | how a server is housed, watched and removed |
//! | [`shared`] | the one server that tests share: RabbitMQ, which takes seven seconds to start |
//!
//! Everything else starts in a second and belongs to one test alone.

pub mod busybox;
pub mod claim;
pub mod clock;
pub mod command;
pub mod dockerd;
pub mod http;
pub mod keeper;
pub mod layer;
pub mod mailbox;
pub mod mothball;
pub mod place;
pub mod process;
pub mod proxy;
pub mod rabbitmq;
pub mod receiver;
pub mod redis;
pub mod registry;
pub mod shared;
pub mod system;
pub mod tree;
pub mod wait;
