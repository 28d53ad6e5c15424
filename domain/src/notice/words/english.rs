//! English.

use super::{Message, Setting, fine_money, moment, money};
use crate::job::JobKind;
use crate::notice::{KeepToken, News, Notice, Subject};
use crate::policy::Reason;
use crate::size::ByteSize;

pub(super) fn message(notice: &Notice, setting: &Setting) -> Message {
    let project = &notice.project;
    let (subject, text) = match &notice.news {
        News::Job { kind, container, image, error, job } => {
            let what = job_of(*kind, container.as_ref(), image.as_deref());
            match error {
                None => (format!("Done: {what}"), format!("{} is done.\n\nJob: {job}", capital(&what))),
                Some(error) => (
                    format!("Failed: {what}"),
                    format!(
                        "{} failed: {}\n\nWhat to do: {}\nJob: {job} (mothball jobs show {job})",
                        capital(&what),
                        error.message,
                        error.hint
                    ),
                ),
            }
        }
        News::Warned { container, reason, protected: true, per_hour, .. } => (
            format!("{} {} and is protected, so it goes on costing", container.name, because(*reason)),
            format!(
                "Your container {} {}. It would be parked now, but it is protected, and stays: it costs {} an hour.\n\n\
                 If you do not need the protection:  mothball protect {} off",
                container.name,
                because(*reason),
                money(*per_hour, setting),
                container.name
            ),
        ),
        News::Warned { container, reason, park_at, per_hour, keep, .. } => (
            format!("{} will be parked at {}", container.name, moment(*park_at)),
            format!(
                "Your container {} {}, and costs {} an hour. It will be parked at {}: saved as an image, which is proven \
                 before the container is deleted. Nothing of its own files is lost, and `mothball wake {}` brings it back.\n\n{}",
                container.name,
                because(*reason),
                money(*per_hour, setting),
                moment(*park_at),
                container.name,
                how_to_keep(container, keep.as_ref(), setting)
            ),
        ),
        News::Parking { container, reason, job } => (
            format!("{} is being parked", container.name),
            format!(
                "Your container {} {}, and its time to be kept is over: it is being saved and deleted now.\n\n\
                 To stop that:  mothball jobs cancel {job}",
                container.name,
                because(*reason)
            ),
        ),
        News::Parked { container, image, per_hour, storage_per_hour, cost, .. } => (
            format!(
                "{} is parked: {} an hour saved",
                container.name,
                money(per_hour - storage_per_hour, setting)
            ),
            format!(
                "Your container {} is saved as {image}, the image is proven, and the container is deleted.\n\n\
                 It cost {} an hour, and has cost {} so far. Keeping its image costs {} an hour.\n\n\
                 To have it back:  mothball wake {}",
                container.name,
                money(*per_hour, setting),
                money(*cost, setting),
                fine_money(*storage_per_hour, setting),
                container.name
            ),
        ),
        News::Woken { container, flavor, per_hour, .. } => (
            format!("{} runs again", container.name),
            format!(
                "Your container {} was woken as {flavor}, and costs {} an hour from now on.\n\n\
                 To see where it can be reached:  mothball containers show {}",
                container.name,
                money(*per_hour, setting),
                container.name
            ),
        ),
        News::Budget { mark, spent, budget } => (
            format!("Project {project} has used {mark} % of its budget"),
            format!(
                "Project {project} has spent {} of the {} that it may cost this month.{}",
                money(*spent, setting),
                money(*budget, setting),
                if *mark >= 100 {
                    " Its containers are being warned and parked; those that are protected or kept stay."
                } else {
                    " At 100 % its containers are warned and parked."
                }
            ),
        ),
        News::ImageExpiring { image, remove_at, reason, size_bytes } => (
            format!("Image {image} will be removed at {}", moment(*remove_at)),
            format!(
                "The image {image} ({}) will be removed at {}, because {reason}.\n\nTo keep it:  mothball images pin {image}",
                ByteSize(*size_bytes),
                moment(*remove_at)
            ),
        ),
        News::Ping => {
            (format!("A test from project {project}"), "This message was asked for as a test.".to_owned())
        }
    };
    Message { subject, body: format!("{text}\n\nProject: {project}\n") }
}

fn how_to_keep(container: &Subject, keep: Option<&KeepToken>, setting: &Setting) -> String {
    let link = keep.and_then(|token| setting.keep_url(token));
    let link = link.map(|url| format!("To keep it running, open:  {url}\nOr:  ")).unwrap_or_default();
    let link = if link.is_empty() { "To keep it running:  ".to_owned() } else { link };
    format!("{link}mothball keep {} --until TIME", container.name)
}

fn because(reason: Reason) -> &'static str {
    match reason {
        Reason::Budget => "belongs to a project whose budget of this month is used up",
        Reason::Lifetime => "has run for as long as its project allows",
        Reason::Idle => "is idle",
    }
}

fn job_of(kind: JobKind, container: Option<&Subject>, image: Option<&str>) -> String {
    let container = container.map_or("a container", |c| c.name.as_str());
    let image = image.unwrap_or("an image");
    match kind {
        JobKind::Snapshot => format!("saving {container} as {image}"),
        JobKind::Delete => format!("deleting {container}"),
        JobKind::Launch => format!("launching {container} from {image}"),
        JobKind::RestoreImage => format!("restoring image {image}"),
        JobKind::PurgeImage => format!("removing image {image} from the registry for good"),
        JobKind::DeleteImage => format!("deleting image {image}"),
        JobKind::Start => format!("starting {container}"),
        JobKind::Stop => format!("stopping {container}"),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
