//! `mothball login`, `logout`, `whoami`.

use super::projects::role;
use crate::context::Context;
use crate::exit::Fail;
use crate::output;
use clap::Args;
use mothball_api::v1::views::Me;
use secrecy::SecretString;
use serde_json::json;
use std::io::{IsTerminal, Read};

/// Longest key that is read from a pipe, in bytes.
const KEY_BYTES_MAX: u64 = 4096;

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The server, where it is not the one of --url or MOTHBALL_URL.
    server: Option<String>,
}

/// Asks for a key, tries it, and saves it.
pub(crate) async fn login(args: LoginArgs, cx: &Context) -> Result<(), Fail> {
    let mut saved = cx.login_or_begin();
    let url = args.server.unwrap_or_else(|| cx.url(&saved));
    let key = read_key(&url)?;
    let me: Me = cx.client_with(&url, key.clone())?.get(&["me"], &[]).await?;
    let path = saved.save(&url, &key)?;
    cx.show(&me, |me| format!("signed in to {url} as {}; the key is kept in {}", me.user, path.display()))
}

/// From a terminal without showing it, else from standard input: a key never stands on a command line.
fn read_key(url: &str) -> Result<SecretString, Fail> {
    let failed = |e: std::io::Error| Fail::failed(format!("read the key: {e}"));
    let text = if std::io::stdin().is_terminal() {
        rpassword::prompt_password(format!("API key for {url}: ")).map_err(failed)?
    } else {
        let mut text = String::new();
        std::io::stdin().lock().take(KEY_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
        text
    };
    let key = text.trim();
    if key.is_empty() {
        return Err(
            Fail::usage("no key was given").hint("write it to standard input, or run this on a terminal")
        );
    }
    Ok(key.into())
}

pub(crate) fn logout(cx: &Context) -> Result<(), Fail> {
    let mut saved = cx.login()?;
    let url = cx.url(&saved);
    let known = saved.forget(&url)?;
    cx.show(&json!({ "url": url, "signed_out": known }), |_| {
        if known { format!("signed out of {url}") } else { format!("there was no login for {url}") }
    })
}

pub(crate) async fn whoami(cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    let me: Me = client.get(&["me"], &[]).await?;
    cx.show(&me, |me| {
        let projects: Vec<String> =
            me.projects.iter().map(|m| format!("{} ({})", m.project, role(m.role))).collect();
        output::facts(&[
            ("user", me.user.clone()),
            ("operator", if me.operator { "yes".to_owned() } else { String::new() }),
            ("projects", projects.join(", ")),
            ("default project", me.default_project.clone().unwrap_or_default()),
            ("server", format!("{} (version {})", client.address(), me.version)),
            ("help", me.support_contact.clone().unwrap_or_default()),
        ])
    })
}
