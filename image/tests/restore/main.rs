//! Images brought into created containers: what a Docker Engine then shows, and what is left when it goes wrong.

mod docker;
mod faults;
mod formats;
mod support;
