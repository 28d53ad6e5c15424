//! Schemas of the domain's closed sets, taken from the domain itself so that they cannot drift.

use mothball_domain::container::ContainerState;
use mothball_domain::failure::FailureClass;
use mothball_domain::job::JobKind;
use mothball_domain::notice::Event;
use mothball_domain::schedule::ScheduleAction;
use mothball_domain::schedule::run::RunOutcome;
use mothball_domain::state::JobState;
use utoipa::openapi::schema::{Array, ArrayBuilder, Object, ObjectBuilder, SchemaType, Type};

fn one_of(values: impl IntoIterator<Item = &'static str>) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(values)).build()
}

pub(crate) fn job_state() -> Object {
    one_of(JobState::ALL.map(JobState::as_str))
}

pub(crate) fn job_kind() -> Object {
    one_of(JobKind::ALL.map(JobKind::as_str))
}

pub(crate) fn container_state() -> Object {
    one_of(ContainerState::ALL.map(ContainerState::as_str))
}

pub(crate) fn failure_class() -> Object {
    one_of(FailureClass::ALL.map(FailureClass::as_str))
}

pub(crate) fn schedule_action() -> Object {
    one_of(ScheduleAction::ALL.map(ScheduleAction::as_str))
}

pub(crate) fn run_outcome() -> Object {
    one_of(RunOutcome::ALL.map(RunOutcome::as_str))
}

pub(crate) fn missed() -> Object {
    one_of(["run_once", "skip"])
}

/// A container's number, or its name.
pub(crate) fn container_ref() -> Object {
    let types = SchemaType::from_iter([Type::Integer, Type::String, Type::Null]);
    ObjectBuilder::new().schema_type(types).build()
}

pub(crate) fn then() -> Object {
    one_of(["keep", "delete", "park"])
}

pub(crate) fn pause() -> Object {
    one_of(["auto", "always", "never"])
}

pub(crate) fn role() -> Object {
    one_of(["member", "admin"])
}

pub(crate) fn way() -> Object {
    one_of(["direct", "engine"])
}

pub(crate) fn event() -> Object {
    one_of(Event::CHOICES.map(Event::as_str).into_iter().chain([Event::Ping.as_str()]))
}

pub(crate) fn events() -> Array {
    ArrayBuilder::new().items(one_of(Event::CHOICES.map(Event::as_str))).build()
}

pub(crate) fn delivery_state() -> Object {
    one_of(["pending", "delivered", "failed"])
}

pub(crate) fn language() -> Object {
    one_of(["en", "zh-TW"])
}
