//! `mothball keys`.

use super::manage::until;
use crate::context::{Context, ago, local, now};
use crate::exit::Fail;
use crate::output;
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use mothball_api::v1::views::{Key, KeyRequest, NewKey};
use serde_json::{Value, json};

/// Most keys that are listed.
const LIST_MAX: usize = 10_000;

#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: Option<KeysCommand>,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Lists keys, without their secrets.
    List {
        /// Whose; your own unless named.
        #[arg(long)]
        user: Option<String>,
    },
    /// Makes a key, and shows it this once.
    Create {
        /// Whose; your own unless named.
        #[arg(long)]
        user: Option<String>,
        /// What it is for.
        #[arg(long, default_value = "")]
        label: String,
        /// When it stops to work: "90d", "2026-09-01", …; never unless named.
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
    },
    /// Takes a key away by its public id.
    Revoke {
        id: String,
        /// Whose; your own unless named.
        #[arg(long)]
        user: Option<String>,
    },
}

pub(crate) async fn run(args: KeysArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    match args.command.unwrap_or(KeysCommand::List { user: None }) {
        KeysCommand::List { user } => {
            let keys: Vec<Key> = client.list(&["keys"], &of(user), LIST_MAX).await?;
            cx.show(&keys, |all| {
                output::table(&["id", "user", "label", "created", "expires"], all.iter().map(row))
            })
        }
        KeysCommand::Create { user, label, expires } => {
            let expires_at = match expires {
                Some(text) => until(&text, now(), &TimeZone::system())?,
                None => None,
            };
            let key: NewKey = client.post(&["keys"], &KeyRequest { user, label, expires_at }).await?;
            cx.show(&key, |k| format!("{}\nKey {} of {}. It is shown only now.", k.key, k.id, k.user))
        }
        KeysCommand::Revoke { id, user } => {
            cx.confirm(&format!("Revoke key {id}?"))?;
            let _: Value = client.delete(&["keys", &id], &of(user)).await?;
            cx.show(&json!({ "revoked": id }), |_| format!("revoked {id}"))
        }
    }
}

fn of(user: Option<String>) -> Vec<(&'static str, String)> {
    user.into_iter().map(|user| ("user", user)).collect()
}

fn row(k: &Key) -> Vec<String> {
    let expires = k.expires_at.map_or_else(|| "never".to_owned(), local);
    vec![k.id.clone(), k.user.clone(), k.label.clone(), ago(k.created_at), expires]
}
