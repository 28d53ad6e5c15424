//! Who calls, for which project, and whether they may.

use crate::app::App;
use crate::bootstrap::DEFAULT_PROJECT;
use crate::keys;
use crate::v1::views::{Code, Problem};
use axum::extract::FromRequestParts;
use axum::http::{HeaderMap, request};
use mothball_domain::name::{ProjectName, UserName};
use mothball_domain::people::{Action, Caller, Project, Role, User};
use serde::Deserialize;
use std::fmt::Display;
use tokio::time::Instant;

/// Longest key looked at.
const KEY_BYTES_MAX: usize = 256;
/// The header that names the project, where the query does not.
const PROJECT_HEADER: &str = "x-mothball-project";

/// A signed-in user.
#[derive(Debug, Clone)]
pub(crate) struct Principal {
    pub(crate) user: User,
    /// SHA-256 of the key they came with.
    key: String,
}

impl FromRequestParts<App> for Principal {
    type Rejection = Problem;

    /// Asks the store each time: a key that is revoked stops to work with the very next call.
    async fn from_request_parts(parts: &mut request::Parts, app: &App) -> Result<Self, Problem> {
        let given = key_of(&parts.headers);
        let key = given.ok_or_else(|| Problem::new(Code::Unauthenticated, "the call carries no key"))?;
        let key = keys::sha256(key);
        let user = user_of(app, &key).await?.ok_or_else(|| {
            Problem::new(
                Code::Unauthenticated,
                "the key does not work: it is unknown, expired or revoked, or its user is disabled",
            )
        })?;
        if !app.rates.take(&key, Instant::now()) {
            return Err(Problem::new(Code::RateLimited, "this key calls too often"));
        }
        Ok(Self { user, key })
    }
}

fn key_of(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization")
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| key);
    let key = bearer.or_else(|| text("x-api-key"))?.trim();
    (1..=KEY_BYTES_MAX).contains(&key.len()).then_some(key)
}

/// The user whose key has this digest, if both still work.
async fn user_of(app: &App, key: &str) -> Result<Option<User>, Problem> {
    let Some(key) = app.parts.store.key(key).await? else { return Ok(None) };
    Ok(app.parts.store.user(&key.user).await?.filter(|user| !user.disabled))
}

/// The operator's key that a call to `/metrics` may carry.
pub(crate) async fn is_operator(app: &App, headers: &HeaderMap) -> Result<bool, Problem> {
    let Some(key) = key_of(headers) else { return Ok(false) };
    Ok(user_of(app, &keys::sha256(key)).await?.is_some_and(|user| user.operator))
}

impl Principal {
    pub(crate) fn name(&self) -> &UserName {
        &self.user.name
    }

    /// Whether the key and its user still work, for calls that last.
    pub(crate) async fn still_works(&self, app: &App) -> Result<bool, Problem> {
        Ok(user_of(app, &self.key).await?.is_some())
    }

    /// The caller as far as one project is concerned. A project that the caller may not see is not there.
    pub(crate) async fn in_project(
        &self,
        app: &App,
        name: &ProjectName,
    ) -> Result<(Caller, Project), Problem> {
        let missing = || Problem::not_found(format_args!("project {name}"));
        let project = app.parts.store.project(name).await?.ok_or_else(missing)?;
        let caller = self.caller(&project);
        if !caller.may(&Action::See) {
            return Err(missing());
        }
        Ok((caller, project))
    }

    /// The caller as far as `project` is concerned.
    pub(crate) fn caller(&self, project: &Project) -> Caller {
        Caller {
            user: self.user.name.clone(),
            operator: self.user.operator,
            role: project.members.get(&self.user.name).copied(),
        }
    }

    /// The caller's role in a project that need not exist.
    pub(crate) async fn caller_in(&self, app: &App, name: &ProjectName) -> Result<Caller, Problem> {
        let project = app.parts.store.project(name).await?;
        let role = project.and_then(|p| p.members.get(&self.user.name).copied());
        Ok(Caller { user: self.user.name.clone(), operator: self.user.operator, role })
    }

    /// Refuses whoever is no operator.
    pub(crate) fn operator(&self) -> Result<(), Problem> {
        if self.user.operator {
            return Ok(());
        }
        Err(Problem::new(Code::Forbidden, "only operators may do this").with_hint("Ask an operator."))
    }

    /// The project of the call: the one it names, else `default` where the caller is a member of it, else the only one.
    pub(crate) async fn choose_project(
        &self,
        app: &App,
        named: Option<&str>,
    ) -> Result<(Caller, Project), Problem> {
        if let Some(named) = named {
            let unknown = || Problem::not_found(format_args!("project {}", shortened(named)));
            let name = ProjectName::new(named).map_err(|_| unknown())?;
            return self.in_project(app, &name).await;
        }
        let own = app.parts.store.projects_of(&self.user.name).await?;
        let chosen = own.iter().find(|p| p.name.as_str() == DEFAULT_PROJECT).or(match own.as_slice() {
            [only] => Some(only),
            _ => None,
        });
        if let Some(project) = chosen {
            return Ok((self.caller(project), project.clone()));
        }
        if self.user.operator && own.is_empty() {
            let name = ProjectName::new(DEFAULT_PROJECT).map_err(|e| Problem::invalid("project", e))?;
            return self.in_project(app, &name).await;
        }
        let theirs: Vec<&str> = own.iter().map(|p| p.name.as_str()).collect();
        let why = if theirs.is_empty() {
            "you are not a member of any project".to_owned()
        } else {
            format!("you are a member of {}", theirs.join(", "))
        };
        let problem = Problem::new(Code::ProjectRequired, why).with_field("project");
        Err(if theirs.is_empty() { problem.with_hint("Ask an operator to add you to one.") } else { problem })
    }
}

/// Decides: a caller who may not even see the project learns that there is no such thing; one who may see it but not
/// do this learns that.
pub(crate) fn authorize(caller: &Caller, action: &Action<'_>, what: impl Display) -> Result<(), Problem> {
    if caller.may(action) {
        return Ok(());
    }
    if !caller.may(&Action::See) {
        return Err(Problem::not_found(what));
    }
    Err(match action {
        Action::ChangeOwnedBy(owner) => Problem::new(
            Code::Forbidden,
            format_args!(
                "{what} belongs to {owner}: only they, the project's admins and operators may do this"
            ),
        ),
        _ => Problem::new(Code::Forbidden, "only the project's admins and operators may do this"),
    })
}

/// Whether the caller administers the project.
pub(crate) fn administers(caller: &Caller) -> bool {
    caller.operator || caller.role == Some(Role::Admin)
}

/// The project that a call names in its query, or in its header.
pub(crate) struct NamedProject(pub(crate) Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for NamedProject {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::<ProjectQuery>::try_from_uri(&parts.uri)
            .map_err(|e| Problem::new(Code::BadRequest, format_args!("the query cannot be read: {e}")))?;
        let header = || parts.headers.get(PROJECT_HEADER).and_then(|v| v.to_str().ok()).map(str::to_owned);
        Ok(Self(query.0.project.or_else(header).filter(|name| !name.is_empty())))
    }
}

#[derive(Deserialize)]
struct ProjectQuery {
    project: Option<String>,
}

/// Text of a caller that is repeated in a sentence.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}
