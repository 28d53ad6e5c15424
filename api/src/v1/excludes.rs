//! What saves leave out: the patterns of a request, and those of its project.

use super::views::Problem;
use crate::app::App;
use mothball_domain::exclude::{EXCLUDES_MAX, Exclude};
use mothball_domain::name::ProjectName;

/// Reads patterns that a caller gave.
pub(super) fn read(field: &str, texts: &[String]) -> Result<Vec<Exclude>, Problem> {
    let mut patterns: Vec<Exclude> = Vec::new();
    for text in texts {
        let pattern = Exclude::new(text.as_str()).map_err(|why| {
            Problem::invalid(field, why).with_hint(
                "Write patterns as in .gitignore, with paths of the container: \"/data/tmp\", \"*.ckpt\".",
            )
        })?;
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    bounded(field, patterns)
}

/// What a save leaves out: what it asks for, and its project's own patterns unless it declines them.
pub(super) async fn of_save(
    app: &App,
    project: &ProjectName,
    asked: &[String],
    with_project: bool,
) -> Result<Vec<Exclude>, Problem> {
    let own = read("exclude", asked)?;
    let project = if with_project { app.parts.store.project(project).await? } else { None };
    match project {
        Some(project) => bounded("exclude", project.excludes_with(&own)),
        None => Ok(own),
    }
}

fn bounded(field: &str, patterns: Vec<Exclude>) -> Result<Vec<Exclude>, Problem> {
    if patterns.len() <= EXCLUDES_MAX {
        return Ok(patterns);
    }
    let why = format!(
        "{} patterns are too many: a save takes {EXCLUDES_MAX}, its project's included",
        patterns.len()
    );
    Err(Problem::invalid(field, why))
}
