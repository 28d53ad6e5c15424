//! `mothball save`, `mothball park`, `mothball wake`.

use super::preflight;
use super::submitted::{self, Wait};
use crate::context::Context;
use crate::exit::Fail;
use clap::{Args, ValueEnum};
use mothball_api::v1::views::{Job, ParkRequest, Preflight, SnapshotRequest, WakeRequest};
use mothball_domain::job::{PauseMode, Then};

#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// The container's number or name.
    #[arg(value_name = "C")]
    container: String,
    /// The image's tag; its name is the base image's.
    #[arg(long)]
    tag: String,
    /// Deletes the container once the image is proven, so that the bill stops.
    #[arg(long)]
    then_delete: bool,
    /// Lets data in anonymous volumes go with the container.
    #[arg(long, requires = "then_delete")]
    discard_volumes: bool,
    /// Only says what the save would mean: sizes, what is not saved, what looks like a secret, the time it takes.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    leave_out: LeaveOut,
    /// When the container is frozen: as short as can be, from the first byte, or not at all.
    #[arg(long, value_enum, default_value_t = Pause::Auto)]
    pause: Pause,
    #[command(flatten)]
    wait: Wait,
}

/// What a save leaves out.
#[derive(Debug, Args)]
struct LeaveOut {
    /// Leaves out what the pattern matches; may be given several times. As in .gitignore, with paths of the container:
    /// /root/.cache, '*.ckpt'.
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Saves what the project's own patterns leave out.
    #[arg(long)]
    no_default_excludes: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Pause {
    Auto,
    Always,
    Never,
}

pub(crate) async fn save(args: SaveArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    let request = SnapshotRequest {
        tag: args.tag,
        then: if args.then_delete { Then::Delete } else { Then::Keep },
        pause: match args.pause {
            Pause::Auto => PauseMode::Auto,
            Pause::Always => PauseMode::Always,
            Pause::Never => PauseMode::Never,
        },
        dry_run: args.dry_run,
        discard_volumes: args.discard_volumes,
        exclude: args.leave_out.exclude,
        default_excludes: !args.leave_out.no_default_excludes,
    };
    let path = ["containers", &args.container, "snapshots"];
    if args.dry_run {
        let told: Preflight = client.post(&path, &request).await?;
        return cx.show(&told, preflight::report);
    }
    if args.then_delete {
        cx.confirm(&format!("Save {} and delete it once the image is proven?", args.container))?;
    }
    let job: Job = client.post(&path, &request).await?;
    submitted::one(cx, &client, job, args.wait).await
}

#[derive(Debug, Args)]
pub(crate) struct ParkArgs {
    /// The container's number or name.
    #[arg(value_name = "C")]
    container: String,
    /// The image's tag; park-YYYYMMDD-HHMMSS unless named.
    #[arg(long)]
    tag: Option<String>,
    /// Lets data in anonymous volumes go with the container.
    #[arg(long)]
    discard_volumes: bool,
    #[command(flatten)]
    leave_out: LeaveOut,
    #[command(flatten)]
    wait: Wait,
}

pub(crate) async fn park(args: ParkArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    let request = ParkRequest {
        tag: args.tag,
        discard_volumes: args.discard_volumes,
        exclude: args.leave_out.exclude,
        default_excludes: !args.leave_out.no_default_excludes,
    };
    let job: Job = client.post(&["containers", &args.container, "park"], &request).await?;
    submitted::one(cx, &client, job, args.wait).await
}

#[derive(Debug, Args)]
pub(crate) struct WakeArgs {
    /// The parked container's name or number.
    name: String,
    /// Another size than it had.
    #[arg(long)]
    flavor: Option<String>,
    #[command(flatten)]
    wait: Wait,
}

pub(crate) async fn wake(args: WakeArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    let job: Job =
        client.post(&["containers", &args.name, "wake"], &WakeRequest { flavor: args.flavor }).await?;
    submitted::one(cx, &client, job, args.wait).await
}
