//! `mothball images`, `mothball flavors`.

use super::containers::money;
use super::submitted::{self, Wait};
use crate::context::{Context, ago, local};
use crate::exit::Fail;
use crate::output::{self, human};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use mothball_api::v1::views::{CatalogImage, FlavorView, Image, Job, PinRequest, RestoreRequest};
use mothball_domain::size::ByteSize;

/// Most images that are listed.
const LIST_MAX: usize = 10_000;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ImagesArgs {
    #[command(subcommand)]
    command: Option<ImagesCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// The base images that the platform offers, instead of the project's own.
    #[arg(long)]
    catalog: bool,
    /// What can be restored, instead: images that were deleted, and what tags named before they were overwritten.
    #[arg(long, conflicts_with = "catalog")]
    restorable: bool,
}

#[derive(Debug, Subcommand)]
enum ImagesCommand {
    /// Lists images.
    List(ListArgs),
    /// Shows one image.
    Show {
        /// NAME:TAG
        #[arg(value_name = "I")]
        image: String,
    },
    /// Deletes images.
    Delete {
        /// NAME:TAG
        #[arg(value_name = "I", required = true)]
        images: Vec<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Brings back an image that was deleted, or what a tag named before it was overwritten.
    Restore {
        /// NAME:TAG
        #[arg(value_name = "I")]
        image: String,
        /// Sets the tag back on what it named before it was last overwritten; what it names now can be restored then.
        #[arg(long)]
        previous: bool,
        /// Sets the tag back on this digest, which it named before.
        #[arg(long, value_name = "DIGEST", conflicts_with = "previous")]
        to: Option<String>,
    },
    /// Keeps clean-up away from an image.
    Pin {
        /// NAME:TAG
        #[arg(value_name = "I")]
        image: String,
        /// Lets it go again.
        #[arg(long)]
        off: bool,
    },
}

pub(crate) async fn run(args: ImagesArgs, cx: &Context) -> Result<(), Fail> {
    match args.command {
        None => list(args.list, cx).await,
        Some(ImagesCommand::List(args)) => list(args, cx).await,
        Some(ImagesCommand::Show { image }) => {
            let image: Image = cx.client()?.get(&["images", &image], &[]).await?;
            cx.show(&image, show)
        }
        Some(ImagesCommand::Delete { images, wait }) => delete(images, wait, cx).await,
        Some(ImagesCommand::Restore { image, previous, to }) => {
            let asked = RestoreRequest { previous, digest: to };
            let image: Image = cx.client()?.post(&["images", &image, "restore"], &asked).await?;
            cx.show(&image, |i| format!("{}:{} is there again: {}", i.name, i.tag, i.digest))
        }
        Some(ImagesCommand::Pin { image, off }) => {
            let image: Image =
                cx.client()?.post(&["images", &image, "pin"], &PinRequest { pinned: !off }).await?;
            cx.show(&image, |i| {
                let words = if i.pinned { "pinned: clean-up leaves it alone" } else { "not pinned any more" };
                format!("{}:{} is {words}", i.name, i.tag)
            })
        }
    }
}

async fn list(args: ListArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    if args.catalog {
        let offered: Vec<CatalogImage> = client.list(&["catalog"], &[], LIST_MAX).await?;
        return cx.show(&offered, |all| {
            let row =
                |i: &CatalogImage| vec![i.name.clone(), i.kind.clone().unwrap_or_default(), i.image.clone()];
            output::table(&["name", "type", "image"], all.iter().map(row))
        });
    }
    if args.restorable {
        let images: Vec<Image> =
            client.list(&["images"], &[("restorable", "true".to_owned())], LIST_MAX).await?;
        return cx.show(&images, |all| {
            if all.is_empty() {
                return "Nothing can be restored.".to_owned();
            }
            let header = ["image", "was", "size", "gone", "because", "until", "bring it back by"];
            output::table(&header, all.iter().flat_map(restorable))
        });
    }
    let images: Vec<Image> = client.list(&["images"], &[], LIST_MAX).await?;
    cx.show(&images, |all| {
        let header = ["image", "size", "layers", "saved by", "updated", "last used", "stays", "project"];
        output::table(&header, all.iter().map(row))
    })
}

/// A row for each thing that can be brought back of a tag.
fn restorable(i: &Image) -> Vec<Vec<String>> {
    let name = format!("{}:{}", i.name, i.tag);
    let until = |at: Option<Timestamp>| at.map_or_else(|| "for ever".to_owned(), local);
    let row = |digest: &str, size, gone, because: &str, at, command| {
        let because = because.to_owned();
        vec![name.clone(), digest.to_owned(), human::bytes(size), ago(gone), because, until(at), command]
    };
    let mut rows = Vec::new();
    if let Some(at) = i.deleted_at {
        let because = i.deleted_because.as_deref().unwrap_or_default();
        let command = format!("images restore {name}");
        rows.push(row(&i.digest, i.size_bytes, at, because, i.restorable_until, command));
    }
    rows.extend(i.previous.iter().enumerate().map(|(index, p)| {
        let how = if index == 0 { "--previous".to_owned() } else { format!("--to {}", p.digest) };
        let command = format!("images restore {name} {how}");
        row(&p.digest, p.size_bytes, p.replaced_at, "overwritten", p.restorable_until, command)
    }));
    rows
}

/// How long an image stays, for a column.
fn stays(i: &Image) -> String {
    match (&i.removal, i.pinned) {
        (_, true) => "pinned".to_owned(),
        (Some(removal), false) => format!("until {}", local(removal.remove_at)),
        (None, false) => "-".to_owned(),
    }
}

fn row(i: &Image) -> Vec<String> {
    vec![
        format!("{}:{}", i.name, i.tag),
        human::bytes(i.size_bytes),
        i.layers.to_string(),
        i.created_by.clone(),
        ago(i.updated_at),
        i.last_used_at.map_or_else(|| "never".to_owned(), ago),
        stays(i),
        i.project.clone(),
    ]
}

fn show(i: &Image) -> String {
    let mut text = output::facts(&[
        ("image", format!("{}:{}", i.name, i.tag)),
        ("digest", i.digest.clone()),
        ("reference", i.reference.clone()),
        ("size", human::bytes(i.size_bytes)),
        ("layers", i.layers.to_string()),
        ("project", i.project.clone()),
        ("saved by", i.created_by.clone()),
        ("saved from", i.source_container.map(|c| format!("container {c}")).unwrap_or_default()),
        ("base", i.base.clone().unwrap_or_default()),
        ("job", i.job.map(|j| j.to_string()).unwrap_or_default()),
        ("created", local(i.created_at)),
        ("updated", local(i.updated_at)),
        ("last used", i.last_used_at.map(local).unwrap_or_default()),
        ("pinned", if i.pinned { "yes".to_owned() } else { String::new() }),
        (
            "goes",
            i.removal
                .as_ref()
                .map(|r| format!("{}, because {}", local(r.remove_at), r.reason))
                .unwrap_or_default(),
        ),
    ]);
    if !i.previous.is_empty() {
        let rows = i.previous.iter().map(|p| {
            let until = p.restorable_until.map_or_else(|| "for ever".to_owned(), local);
            vec![p.digest.clone(), human::bytes(p.size_bytes), local(p.replaced_at), until]
        });
        text.push_str("\n\n");
        text.push_str(&output::table(&["was before", "size", "until", "restorable until"], rows));
    }
    text
}

async fn delete(images: Vec<String>, wait: Wait, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    cx.confirm(&format!("Delete {}?", images.join(", ")))?;
    let mut started = Vec::new();
    for image in &images {
        started.push(client.delete::<Job>(&["images", image], &[]).await);
    }
    submitted::many(cx, &client, started, wait).await
}

pub(crate) async fn flavors(cx: &Context) -> Result<(), Fail> {
    let flavors: Vec<FlavorView> = cx.client()?.list(&["flavors"], &[], LIST_MAX).await?;
    cx.show(&flavors, |all| {
        let row = |f: &FlavorView| {
            vec![
                f.name.clone(),
                f.gpus.to_string(),
                f.cpus.to_string(),
                ByteSize(f.memory_bytes).to_string(),
                f.shm_bytes.map_or_else(|| "-".to_owned(), |shm| ByteSize(shm).to_string()),
                money(&f.price_per_hour, &f.currency),
            ]
        };
        output::table(&["name", "gpus", "cpus", "memory", "shm", "per hour"], all.iter().map(row))
    })
}
