//! `mothball projects`.

use crate::context::{Context, ago};
use crate::exit::Fail;
use crate::output::{self, human};
use clap::{Args, Subcommand, ValueEnum};
use mothball_api::v1::views::{MemberRequest, Project, ProjectPatch, ProjectRequest};
use mothball_domain::people::Role;
use mothball_domain::size::ByteSize;

/// Most projects that are listed.
const LIST_MAX: usize = 10_000;

#[derive(Debug, Args)]
pub(crate) struct ProjectsArgs {
    #[command(subcommand)]
    command: Option<ProjectsCommand>,
}

#[derive(Debug, Subcommand)]
enum ProjectsCommand {
    /// Lists your projects; all of them for an operator.
    List,
    /// Shows one project with its members.
    Show { name: String },
    /// Makes a project (operators).
    Create { name: String },
    /// Changes who is in a project.
    #[command(subcommand)]
    Members(MembersCommand),
    /// Sets how much a project may keep (operators).
    Quota {
        name: String,
        /// Most bytes of images, as in "500GB"; "none" for no limit.
        #[arg(long)]
        bytes: Option<String>,
        /// Most images; "none" for no limit.
        #[arg(long)]
        images: Option<String>,
    },
    /// Sets what every save of a project leaves out (its admins).
    Excludes {
        name: String,
        /// Patterns as in .gitignore, with paths of the container: /root/.cache, '*.ckpt'. They replace those there are.
        #[arg(value_name = "PATTERN", required_unless_present = "none")]
        patterns: Vec<String>,
        /// Nothing.
        #[arg(long, conflicts_with = "patterns")]
        none: bool,
    },
}

#[derive(Debug, Subcommand)]
enum MembersCommand {
    /// Lists a project's members.
    List { project: String },
    /// Makes a user a member, or changes their role.
    Add {
        project: String,
        user: String,
        #[arg(long, value_enum, default_value_t = RoleArg::Member)]
        role: RoleArg,
    },
    /// Takes a user out of a project.
    Remove { project: String, user: String },
}

/// A role, as it is written on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RoleArg {
    Member,
    Admin,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Member => Self::Member,
            RoleArg::Admin => Self::Admin,
        }
    }
}

pub(crate) async fn run(args: ProjectsArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    match args.command.unwrap_or(ProjectsCommand::List) {
        ProjectsCommand::List => {
            let projects: Vec<Project> = client.list(&["projects"], &[], LIST_MAX).await?;
            cx.show(&projects, |all| {
                let header = ["name", "your role", "members", "most bytes", "most images", "created"];
                output::table(&header, all.iter().map(row))
            })
        }
        ProjectsCommand::Show { name } => {
            let project: Project = client.get(&["projects", &name], &[]).await?;
            cx.show(&project, show)
        }
        ProjectsCommand::Create { name } => {
            let project: Project = client.post(&["projects"], &ProjectRequest { name }).await?;
            cx.show(&project, |p| format!("made project {}", p.name))
        }
        ProjectsCommand::Quota { name, bytes, images } => {
            let patch = quota(bytes.as_deref(), images.as_deref())?;
            let project: Project = client.patch(&["projects", &name], &patch).await?;
            cx.show(&project, show)
        }
        ProjectsCommand::Excludes { name, patterns, none: _ } => {
            let patch = ProjectPatch { excludes: Some(patterns), ..ProjectPatch::default() };
            let project: Project = client.patch(&["projects", &name], &patch).await?;
            cx.show(&project, show)
        }
        ProjectsCommand::Members(command) => members(command, cx).await,
    }
}

async fn members(command: MembersCommand, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    let project: Project = match command {
        MembersCommand::List { project } => client.get(&["projects", &project], &[]).await?,
        MembersCommand::Add { project, user, role } => {
            let request = MemberRequest { role: role.into() };
            client.put(&["projects", &project, "members", &user], &request).await?
        }
        MembersCommand::Remove { project, user } => {
            client.delete(&["projects", &project, "members", &user], &[]).await?
        }
    };
    cx.show(&project, member_table)
}

fn quota(bytes: Option<&str>, images: Option<&str>) -> Result<ProjectPatch, Fail> {
    if bytes.is_none() && images.is_none() {
        return Err(Fail::usage("nothing to set").hint("name --bytes, --images or both"));
    }
    let quota_bytes = match bytes {
        None => None,
        Some("none") => Some(None),
        Some(text) => Some(Some(text.parse::<ByteSize>().map_err(|e| Fail::usage(e.to_string()))?.0)),
    };
    let quota_images = match images {
        None => None,
        Some("none") => Some(None),
        Some(text) => {
            let count = text
                .parse()
                .map_err(|_| Fail::usage(format!("--images {text:?} is neither a number nor \"none\"")))?;
            Some(Some(count))
        }
    };
    Ok(ProjectPatch { quota_bytes, quota_images, excludes: None })
}

pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Member => "member",
        Role::Admin => "admin",
    }
}

fn row(p: &Project) -> Vec<String> {
    vec![
        p.name.clone(),
        p.role.map_or("-", role).to_owned(),
        p.members.len().to_string(),
        p.quota_bytes.map_or_else(|| "-".to_owned(), human::bytes),
        p.quota_images.map_or_else(|| "-".to_owned(), |n| n.to_string()),
        ago(p.created_at),
    ]
}

fn show(p: &Project) -> String {
    let facts = output::facts(&[
        ("name", p.name.clone()),
        ("your role", p.role.map(|r| role(r).to_owned()).unwrap_or_default()),
        ("most bytes", p.quota_bytes.map_or_else(|| "no limit".to_owned(), human::bytes)),
        ("most images", p.quota_images.map_or_else(|| "no limit".to_owned(), |n| n.to_string())),
        ("saves leave out", p.excludes.join(", ")),
        ("created", ago(p.created_at)),
    ]);
    format!("{facts}\n\n{}", member_table(p))
}

fn member_table(p: &Project) -> String {
    output::table(
        &["member", "role"],
        p.members.iter().map(|(user, r)| vec![user.clone(), role(*r).to_owned()]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_set_lifted_or_left() {
        let patch = quota(Some("500GB"), Some("none")).unwrap();
        assert_eq!((patch.quota_bytes, patch.quota_images), (Some(Some(500_000_000_000)), Some(None)));
        assert_eq!(quota(None, Some("3")).unwrap().quota_bytes, None);
        assert!(
            quota(None, None).is_err() && quota(Some("5"), None).is_err() && quota(None, Some("x")).is_err()
        );
    }
}
