//! Each way to save a container and to launch it again, done as a user would do it.

mod buildah;
mod docker;
mod mothball;
mod tool;

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;

pub(crate) use buildah::Buildah;
pub(crate) use docker::{launch as docker_launch, save as docker_save};
pub(crate) use mothball::{delete, launch as mothball_launch, save as mothball_save};

/// How Mothball's worker saves and launches: `worker.snapshot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// The worker itself reads the writable layer.
    Direct,
    /// Docker commits and pushes, in Mothball's care.
    Engine,
    /// Direct where it is possible.
    Auto,
}

/// Whom Mothball can be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rival {
    /// docker commit, push, pull and run.
    Docker,
    /// buildah commit, straight to the registry.
    Buildah,
    /// Mothball's own other way.
    Engine,
}

/// Who did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Who {
    /// Mothball, the way that was asked for.
    Mothball,
    /// Mothball by Docker's commit and push.
    Engine,
    /// Docker; for a launch, from the image that Mothball saved.
    Docker,
    /// Docker, from the image that it pushed itself: launches only.
    DockerOwn,
    /// buildah.
    Buildah,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// A container becomes an image in the registry.
    Save,
    /// An image becomes a running container on a node that has its base.
    Launch,
}

/// What a rival itself says about what it did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    /// What a plain docker pull takes; empty for a launch.
    pub(crate) reference: String,
    /// Its parts, each with the seconds it took.
    pub(crate) stages: Vec<(String, f64)>,
    /// Mothball's own word: seconds from the job's start to its end.
    pub(crate) job_s: Option<f64>,
    /// Mothball's own word: seconds that the container was frozen.
    pub(crate) frozen_said_s: Option<f64>,
    /// The most memory of a process that lived only for this, in bytes.
    pub(crate) tool_rss: Option<u64>,
    /// What Mothball's job says.
    pub(crate) notes: Vec<String>,
}

impl Who {
    /// A name for a row of a table.
    pub(crate) fn name(self, action: Action) -> &'static str {
        match (self, action) {
            (Self::Mothball, _) => "Mothball",
            (Self::Engine, _) => "Mothball, engine's way",
            (Self::Docker, Action::Save) => "docker commit + push",
            (Self::Docker, Action::Launch) => "docker pull + run, same image",
            (Self::DockerOwn, _) => "docker pull + run, its own image",
            (Self::Buildah, _) => "buildah commit to the registry",
        }
    }
}

impl Way {
    /// The value of `worker.snapshot`.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Engine => "engine",
            Self::Auto => "auto",
        }
    }
}

impl fmt::Display for Rival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "docker",
            Self::Buildah => "buildah",
            Self::Engine => "engine",
        })
    }
}

/// A value of JSON as text, without quotes.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
