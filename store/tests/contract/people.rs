//! Projects, users, members and keys.

use crate::world::*;
use anyhow::{Context, Result, ensure};
use mothball_domain::exclude::Exclude;
use mothball_domain::people::Role;
use mothball_harness::wait::eventually;
use mothball_store::KeyDraft;
use std::time::Duration;

pub(crate) async fn users_and_projects_are_made_once(w: &World) -> Result<()> {
    let (ann, made) = w.store.create_user(&user("ann"), true).await?;
    ensure!(made && ann.operator && !ann.disabled);
    ensure!(w.store.create_user(&user("ann"), false).await? == (ann.clone(), false), "it changed on the way");
    let changed = w.store.change_user(&user("ann"), Some(false), None).await?;
    ensure!(changed.is_some_and(|u| !u.operator && !u.disabled));
    let changed = w.store.change_user(&user("ann"), None, Some(true)).await?;
    ensure!(
        changed.as_ref().is_some_and(|u| !u.operator && u.disabled)
            && w.store.user(&user("ann")).await? == changed
    );
    ensure!(w.store.change_user(&user("none"), Some(true), None).await?.is_none());

    for name in ["c", "a", "b"] {
        ensure!(
            w.store.create_project(&project(name)).await?.1
                && !w.store.create_project(&project(name)).await?.1
        );
        w.store.create_user(&user(name), false).await?;
    }
    let first = w.store.projects(None, 2).await?;
    let second = w.store.projects(first.next.as_deref(), 2).await?;
    let names: Vec<String> = first.items.iter().chain(&second.items).map(|p| p.name.to_string()).collect();
    ensure!(names == ["a", "b", "c"] && second.next.is_none(), "{names:?}");
    let users = w.store.users(Some("a"), 9).await?.items;
    let names: Vec<&str> = users.iter().map(|u| u.name.as_str()).collect();
    ensure!(names == ["ann", "b", "c"], "{names:?}");
    Ok(())
}

pub(crate) async fn members_come_and_go(w: &World) -> Result<()> {
    for name in ["p", "q"] {
        w.store.create_project(&project(name)).await?;
    }
    ensure!(
        w.store.set_member(&project("p"), &user("ann"), Some(Role::Member)).await?.is_none(),
        "no such user"
    );
    w.store.create_user(&user("ann"), false).await?;
    ensure!(w.store.set_member(&project("none"), &user("ann"), Some(Role::Member)).await?.is_none());
    for name in ["q", "p"] {
        w.store.set_member(&project(name), &user("ann"), Some(Role::Member)).await?;
    }
    w.store.set_member(&project("p"), &user("ann"), Some(Role::Admin)).await?;
    let mine = w.store.projects_of(&user("ann")).await?;
    let roles: Vec<(&str, Option<&Role>)> =
        mine.iter().map(|p| (p.name.as_str(), p.members.get(&user("ann")))).collect();
    ensure!(roles == [("p", Some(&Role::Admin)), ("q", Some(&Role::Member))], "{roles:?}");
    for _ in 0..2 {
        let left = w.store.set_member(&project("p"), &user("ann"), None).await?;
        ensure!(left.is_some_and(|p| p.members.is_empty()));
    }
    ensure!(w.store.projects_of(&user("ann")).await?.len() == 1);
    let limited = w.store.set_quota(&project("p"), Some(5), None).await?;
    ensure!(limited.is_some_and(|p| p.quota_bytes == Some(5) && p.quota_images.is_none()));
    ensure!(w.store.set_quota(&project("none"), None, None).await?.is_none());
    Ok(())
}

pub(crate) async fn a_project_keeps_what_its_saves_leave_out(w: &World) -> Result<()> {
    w.store.create_project(&project("p")).await?;
    let excludes = [Exclude::new("*.ckpt")?, Exclude::new("/tmp")?];
    for _ in 0..2 {
        let changed = w.store.set_excludes(&project("p"), &excludes).await?.context("the project")?;
        ensure!(changed.excludes == excludes);
    }
    w.store.set_quota(&project("p"), Some(5), None).await?;
    let read = w.store.project(&project("p")).await?.context("the project")?;
    ensure!(read.excludes == excludes && read.quota_bytes == Some(5));
    ensure!(w.store.set_excludes(&project("none"), &excludes).await?.is_none());
    Ok(())
}

fn key(id: &str, sha256: &str) -> KeyDraft {
    KeyDraft {
        id: id.into(),
        user: user("ann"),
        label: "laptop".into(),
        expires_at: None,
        sha256: sha256.into(),
    }
}

pub(crate) async fn a_key_works_until_it_is_revoked(w: &World) -> Result<()> {
    let made = w.store.create_key(&key("k2", "aa")).await?;
    ensure!(made.sha256 == "aa" && w.store.key("aa").await? == Some(made.clone()));
    ensure!(w.store.create_key(&key("k2", "aa")).await? == made, "it is idempotent");
    w.store.create_key(&key("k1", "bb")).await?;
    let ids: Vec<String> = w.store.keys_of(&user("ann")).await?.into_iter().map(|k| k.id).collect();
    ensure!(ids == ["k2", "k1"], "not oldest first: {ids:?}");
    ensure!(w.store.key("cc").await?.is_none());
    ensure!(!w.store.revoke_key(&user("bob"), "k2").await?, "a stranger revoked it");
    ensure!(w.store.revoke_key(&user("ann"), "k2").await? && !w.store.revoke_key(&user("ann"), "k2").await?);
    ensure!(w.store.key("aa").await?.is_none() && w.store.keys_of(&user("ann")).await?.len() == 1);
    Ok(())
}

pub(crate) async fn a_key_works_until_its_time_is_over(w: &World) -> Result<()> {
    let expires_at = w.store.now().await? + Duration::from_millis(300);
    w.store.create_key(&KeyDraft { expires_at: Some(expires_at), ..key("k", "aa") }).await?;
    let found = w.store.key("aa").await?;
    ensure!(found.is_some() || w.store.now().await? >= expires_at);
    eventually(SOON, "the end of the key", async || w.store.key("aa").await.ok()?.is_none().then_some(()))
        .await?;
    ensure!(w.store.now().await? >= expires_at && w.store.keys_of(&user("ann")).await?.len() == 1);
    Ok(())
}
