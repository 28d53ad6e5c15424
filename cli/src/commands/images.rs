//! `mothball images`, `mothball flavors`.

use super::containers::money;
use super::submitted::{self, Wait};
use crate::context::{Context, ago, local};
use crate::exit::Fail;
use crate::output::{self, human};
use clap::{Args, Subcommand};
use mothball_api::v1::views::{CatalogImage, FlavorView, Image, Job, PinRequest};
use mothball_domain::size::ByteSize;
use serde_json::json;

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
    /// Brings back what a tag was before it was overwritten.
    Restore {
        /// NAME:TAG
        #[arg(value_name = "I")]
        image: String,
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
        Some(ImagesCommand::Restore { image }) => {
            let image: Image = cx.client()?.post(&["images", &image, "restore"], &json!({})).await?;
            cx.show(&image, |i| format!("{}:{} is {} again", i.name, i.tag, i.digest))
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
    let images: Vec<Image> = client.list(&["images"], &[], LIST_MAX).await?;
    cx.show(&images, |all| {
        let header = ["image", "size", "layers", "saved by", "updated", "last used", "pinned", "project"];
        output::table(&header, all.iter().map(row))
    })
}

fn row(i: &Image) -> Vec<String> {
    vec![
        format!("{}:{}", i.name, i.tag),
        human::bytes(i.size_bytes),
        i.layers.to_string(),
        i.created_by.clone(),
        ago(i.updated_at),
        i.last_used_at.map_or_else(|| "never".to_owned(), ago),
        if i.pinned { "yes".to_owned() } else { "-".to_owned() },
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
    ]);
    if !i.previous.is_empty() {
        let rows = i.previous.iter().map(|p| {
            vec![p.digest.clone(), human::bytes(p.size_bytes), format!("until {}", local(p.replaced_at))]
        });
        text.push_str("\n\n");
        text.push_str(&output::table(&["was before", "size", ""], rows));
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
