//! `mothball users`.

use super::projects::{RoleArg, role};
use crate::context::{Context, ago};
use crate::exit::Fail;
use crate::output;
use clap::{Args, Subcommand};
use mothball_api::v1::views::{KeyRequest, NewKey, User, UserPatch, UserRequest};
use serde_json::json;

/// Most users that are listed.
const LIST_MAX: usize = 100_000;

#[derive(Debug, Args)]
pub(crate) struct UsersArgs {
    #[command(subcommand)]
    command: Option<UsersCommand>,
}

#[derive(Debug, Subcommand)]
enum UsersCommand {
    /// Lists users.
    List,
    /// Makes a user.
    Create {
        name: String,
        /// Makes them an operator of the platform.
        #[arg(long)]
        operator: bool,
        /// Their role in the project of --project.
        #[arg(long, value_enum)]
        role: Option<RoleArg>,
        /// Makes a key for them as well, and shows it this once.
        #[arg(long)]
        with_key: bool,
    },
    /// Refuses a user's keys from now on.
    Disable { name: String },
    /// Accepts a disabled user's keys again.
    Enable { name: String },
}

pub(crate) async fn run(args: UsersArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    match args.command.unwrap_or(UsersCommand::List) {
        UsersCommand::List => {
            let users: Vec<User> = client.list(&["users"], &[], LIST_MAX).await?;
            cx.show(&users, |all| {
                output::table(&["name", "projects", "operator", "disabled", "created"], all.iter().map(row))
            })
        }
        UsersCommand::Create { name, operator, role, with_key } => {
            let project = cx.global.project.clone();
            if role.is_some() && project.is_none() {
                return Err(Fail::usage("--role needs a project").hint("name it with --project"));
            }
            let request = UserRequest { name, operator, project, role: role.map(Into::into) };
            let user: User = client.post(&["users"], &request).await?;
            if !with_key {
                return cx.show(&user, |u| format!("made user {}{}", u.name, memberships(u, ", ")));
            }
            let request =
                KeyRequest { user: Some(user.name.clone()), label: "first key".to_owned(), expires_at: None };
            let key: NewKey = client.post(&["keys"], &request).await?;
            cx.show(&json!({ "user": user, "key": key }), |_| {
                format!(
                    "made user {}{}\nkey: {}\nIt is shown only now.",
                    user.name,
                    memberships(&user, ", "),
                    key.key
                )
            })
        }
        UsersCommand::Disable { name } => switch(&name, true, cx).await,
        UsersCommand::Enable { name } => switch(&name, false, cx).await,
    }
}

async fn switch(name: &str, disabled: bool, cx: &Context) -> Result<(), Fail> {
    let patch = UserPatch { disabled: Some(disabled), ..UserPatch::default() };
    let user: User = cx.client()?.patch(&["users", name], &patch).await?;
    cx.show(&user, |u| format!("keys of {} are {}", u.name, if u.disabled { "refused" } else { "accepted" }))
}

fn row(u: &User) -> Vec<String> {
    let yes = |b: bool| if b { "yes" } else { "-" }.to_owned();
    vec![u.name.clone(), memberships(u, ""), yes(u.operator), yes(u.disabled), ago(u.created_at)]
}

fn memberships(u: &User, lead: &str) -> String {
    let all: Vec<String> = u.projects.iter().map(|m| format!("{} ({})", m.project, role(m.role))).collect();
    if all.is_empty() { String::new() } else { format!("{lead}{}", all.join(", ")) }
}
