//! The registry client against a real docker-registry, and against scripted servers for what no real
//! registry can be made to do.

mod bases;
mod credentials;
mod cuts;
mod docker;
mod faults;
mod images;
mod keeping;
mod layers;
mod memory;
mod passes;
mod scripted;
mod support;
mod tokens;
mod uploads;
mod verify;
