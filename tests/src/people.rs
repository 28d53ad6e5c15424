//! Projects, users and their keys.

use anyhow::Result;
use mothball_harness::http::Api;
use reqwest::Method;
use serde_json::json;

/// Makes a user who is a member of this project, which is made where it is not there; the API with a key of theirs.
pub async fn member(operator: &Api, project: &str, user: &str) -> Result<Api> {
    Ok(operator.with_key(&member_key(operator, project, user).await?))
}

/// The same; the key alone.
pub async fn member_key(operator: &Api, project: &str, user: &str) -> Result<String> {
    let made = operator.post("/v1/projects", &json!({"name": project})).await?;
    if made.status != 409 {
        made.expect(201)?;
    }
    let body = json!({"name": user, "project": project, "role": "member"});
    operator.post("/v1/users", &body).await?.expect(201)?;
    let key = operator.post("/v1/keys", &json!({"user": user})).await?.expect(201)?;
    Ok(key["key"].as_str().unwrap_or_default().to_owned())
}

/// Asks for a path with every method that could show or change something; the status of each answer.
pub async fn knock(api: &Api, path: &str, methods: &[Method]) -> Result<Vec<(String, u16)>> {
    let mut answers = Vec::new();
    for method in methods {
        let request = api.request(method.clone(), path).json(&json!({}));
        let answer = mothball_harness::http::send(request).await?;
        answers.push((format!("{method} {path}"), answer.status));
    }
    Ok(answers)
}
