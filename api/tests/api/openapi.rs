//! The description is committed, and agrees with the code. `UPDATE=1 cargo test -p mothball-api openapi` writes it.

use crate::world::World;
use serde_json::Value;
use std::path::Path;

#[tokio::test]
async fn the_committed_description_is_the_codes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let described = mothball_api::v1::openapi();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{described}\n")).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed.trim_end() == described,
        "docs/openapi.json is not the code's: run this test with UPDATE=1"
    );
    let answer = World::new().await.get("", "/v1/openapi.json").await.is(200);
    assert_eq!(answer.text, described);
    assert_eq!(answer.header("content-type"), "application/json");
}

#[test]
fn every_reference_leads_somewhere_and_every_call_says_what_it_is() {
    let described: Value = serde_json::from_str(&mothball_api::v1::openapi()).unwrap();
    assert!(described["openapi"].as_str().unwrap().starts_with("3.1"));
    let schemas = described["components"]["schemas"].as_object().unwrap();
    let text = described.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = &reference[..reference.find('"').unwrap()];
        assert!(schemas.contains_key(name), "{name}");
    }
    for (path, methods) in described["paths"].as_object().unwrap() {
        for (method, call) in methods.as_object().unwrap() {
            assert!(
                call["summary"].is_string() && call["responses"]["default"].is_object(),
                "{method} {path}"
            );
        }
    }
}
