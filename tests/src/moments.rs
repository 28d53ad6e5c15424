//! Moments of a save, as the registry sees them, whichever way the worker saves.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use mothball_harness::proxy::{Proxy, Rule};

/// Something is about to be brought into the registry: each save brings its config at least.
pub fn upload() -> Rule {
    Rule::on("POST", "/blobs/uploads/")
}

/// The same, once the container was frozen: a save reads the better part while the container runs. To be called before the
/// save is asked for.
pub fn frozen_upload(docker: &Proxy) -> Rule {
    let frozen = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&frozen);
    // Chooses nothing: it only looks.
    drop(docker.hold(Rule::matching(move |request| {
        if request.method == "POST" && request.path.ends_with("/pause") {
            seen.store(true, Ordering::Relaxed);
        }
        false
    })));
    Rule::matching(move |request| {
        frozen.load(Ordering::Relaxed) && request.method == "POST" && request.path.contains("/blobs/uploads/")
    })
}

/// The beginning of an attempt: the registry is asked whether it is there. Docker asks the same before each push.
pub fn greeting() -> Rule {
    Rule::matching(|request| request.method == "GET" && request.path == "/v2/")
}

/// The proof: a manifest is read by its digest after it was put by that digest. Later readings match as well.
pub fn proof() -> Rule {
    let put = Mutex::new(HashSet::new());
    Rule::matching(move |request| {
        let mut put = put.lock().unwrap_or_else(PoisonError::into_inner);
        if request.method == "PUT" && request.path.contains("/manifests/sha256:") {
            put.insert(request.path.clone());
            return false;
        }
        matches!(request.method.as_str(), "GET" | "HEAD") && put.contains(&request.path)
    })
}

/// Repository and digest of the manifest that was put by digest last.
pub fn put_last(proxy: &Proxy) -> Result<(String, String)> {
    let requests = proxy.requests();
    let put = requests.iter().rev().find_map(|request| {
        let (repository, digest) = request.path.strip_prefix("/v2/")?.split_once("/manifests/")?;
        (request.method == "PUT" && digest.starts_with("sha256:")).then_some((repository, digest))
    });
    let (repository, digest) = put.context("no manifest was put by digest")?;
    Ok((repository.to_owned(), digest.to_owned()))
}
