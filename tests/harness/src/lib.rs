//! Private servers for tests: each with its own ports, sockets and data directory, and gone without a trace when dropped,
//! also when the test process is killed (see [`keeper`]).
//!
//! Nothing is mocked and nothing is skipped: a program that is missing is an error that names the Debian package.

pub mod busybox;
pub mod claim;
pub mod command;
pub mod dockerd;
pub mod http;
pub mod keeper;
pub mod mothball;
pub mod place;
pub mod process;
pub mod proxy;
pub mod rabbitmq;
pub mod redis;
pub mod registry;
pub mod shared;
pub mod system;
pub mod tree;
pub mod wait;
