//! Every list comes in pages, and its pages together hold each item once.

use crate::world::World;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Reads a list in pages of two, and returns each item's text.
async fn read(world: &World, user: &str, path: &str) -> Vec<String> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    let joint = if path.contains('?') { '&' } else { '?' };
    for _ in 0..100 {
        let page = world.get(user, &format!("{path}{joint}limit=2&cursor={cursor}")).await.is(200).json();
        let got = page["items"].as_array().unwrap();
        assert!(got.len() <= 2, "{path}: {page}");
        items.extend(got.iter().map(Value::to_string));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.replace(':', "%3A"),
            None => return items,
        }
    }
    panic!("{path} has no end");
}

#[tokio::test]
async fn every_list_is_paged() {
    let world = World::new().await;
    for i in 0..5 {
        let id = world.ready("ann", &format!("box{i}")).await;
        world.saved("ann", id, &format!("v{i}")).await;
        world.post("admin", "/v1/projects", json!({"name": format!("p{i}")})).await.is(201);
        world.post("ann", "/v1/keys", json!({"label": format!("k{i}")})).await.is(201);
    }
    for i in 0..5 {
        world.node(&format!("extra{i}"), 0).await;
    }
    for (user, path, count) in [
        ("ann", "/v1/containers", 5),
        ("admin", "/v1/containers?all=true&node=n1", 5),
        ("ann", "/v1/jobs", 10),
        ("boss", "/v1/jobs?all=true&kind=snapshot", 5),
        ("bob", "/v1/images", 5),
        ("admin", "/v1/projects", 7),
        ("ann", "/v1/projects", 1),
        ("admin", "/v1/users", 5),
        ("ann", "/v1/keys", 6),
        ("admin", "/v1/nodes", 6),
        ("boss", "/v1/audit", 10),
        ("admin", "/v1/audit", 20),
        ("ann", "/v1/flavors", 3),
        ("ann", "/v1/catalog", 1),
    ] {
        let items = read(&world, user, path).await;
        let different: BTreeSet<&String> = items.iter().collect();
        assert_eq!((items.len(), different.len()), (count, count), "{user} {path}: {items:?}");
    }
}
