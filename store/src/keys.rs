//! Names of records and indexes. Every record and index of the store is named here.

use jiff::Timestamp;
use mothball_domain::container::ContainerState;
use mothball_domain::id::{ContainerId, DeliveryId, JobId, NoticeId, ScheduleId, SurveyId, WebhookId};
use mothball_domain::image::{Digest, ImageRef};
use mothball_domain::job::JobKind;
use mothball_domain::name::{ContainerName, ImageName, NodeName, ProjectName, UserName};
use mothball_domain::notice::KeepToken;
use mothball_domain::state::JobState;

/// Unfinished jobs by the time at which the scheduler must look at them: exactly one entry each.
pub(crate) const DUE: &str = "due";
/// Launches that wait for room, first come first.
pub(crate) const WAITING: &str = "waiting";
/// All jobs, by id and so by age.
pub(crate) const JOBS: &str = "jobs";
/// Jobs that are over, by the time they ended.
pub(crate) const FINISHED: &str = "finished";
/// How often room was released: a launch that decides to wait decides anew when that moves meanwhile, because whoever
/// releases room looks only at those that wait already.
pub(crate) const RELEASES: &str = "counter:releases";
/// All containers that are not deleted.
pub(crate) const CONTAINERS: &str = "containers";
/// All containers, deleted ones included.
pub(crate) const CONTAINERS_ALL: &str = "containers:all";
/// Deleted containers that still have a record, by the time they were deleted.
pub(crate) const CONTAINERS_GONE: &str = "containers:gone";
/// Sheets of the ledger, by the time their last line ended; [`OPEN`] while that lasts.
pub(crate) const LEDGER: &str = "ledger";
/// Whether the ledger has the containers of before there was one.
pub(crate) const LEDGER_BEGUN: &str = "ledger:begun";
/// The score of what has no end: later than any time, and a number that Redis keeps exactly.
pub(crate) const OPEN: i64 = 9_000_000_000_000_000;
/// All nodes.
pub(crate) const NODES: &str = "nodes";
/// All projects.
pub(crate) const PROJECTS: &str = "projects";
/// Projects that have a policy about parking.
pub(crate) const PARK_POLICIES: &str = "parkpolicies";
/// Projects that have a policy about images, or had one of which notices may stand.
pub(crate) const RETENTION_POLICIES: &str = "retentionpolicies";
/// Tags of which something can be restored, by the time at which the first of that is over its grace.
pub(crate) const UNDO_DUE: &str = "undo:due";
/// Content that nobody can restore, by the time at which the scheduler must look at it.
pub(crate) const LEAVING: &str = "leaving";
/// All users.
pub(crate) const USERS: &str = "users";
/// The audit trail, by id and so by age.
pub(crate) const AUDIT: &str = "audit";
/// The audit trail, by the time each entry was written.
pub(crate) const AUDIT_TIMES: &str = "audit:times";
/// The number of the newest container.
pub(crate) const CONTAINER_COUNTER: &str = "counter:container";

/// All schedules.
pub(crate) const SCHEDULES: &str = "schedules";
/// Schedules that are switched on, by the time at which they fire next: exactly one entry each.
pub(crate) const SCHEDULES_DUE: &str = "schedules:due";
/// Runs of schedules that are not over, by the time at which the scheduler must look at them.
pub(crate) const RUNS_DUE: &str = "schedules:runs:due";

/// Notices that were not spread to their receivers yet, by the time they were written.
pub(crate) const NOTICES_DUE: &str = "notices:due";
/// Deliveries that have not arrived yet, by the time at which they are tried next.
pub(crate) const DELIVERIES_DUE: &str = "deliveries:due";
/// All deliveries, by the time they were made.
pub(crate) const DELIVERY_TIMES: &str = "deliveries:times";

pub(crate) fn job(id: JobId) -> String {
    format!("job:{id}")
}
pub(crate) fn jobs_of_user(user: &UserName) -> String {
    format!("jobs:u:{user}")
}
pub(crate) fn jobs_of_project(project: &ProjectName) -> String {
    format!("jobs:p:{project}")
}
pub(crate) fn jobs_in_state(kind: JobKind, state: JobState) -> String {
    format!("jobs:s:{kind}:{state}")
}
/// Unfinished jobs that wait for a worker of this node or that one holds.
pub(crate) fn jobs_on_node(node: &NodeName) -> String {
    format!("jobs:n:{node}")
}
pub(crate) fn idempotency(user: &UserName, key: &str) -> String {
    format!("idem:{user}:{key}")
}
pub(crate) fn container(id: ContainerId) -> String {
    format!("container:{id}")
}
/// Container ids as index members: padded, so that the order of bytes is the order of numbers.
pub(crate) fn container_member(id: ContainerId) -> String {
    format!("{:020}", id.0)
}
pub(crate) fn container_name(project: &ProjectName, name: &ContainerName) -> String {
    format!("name:{project}:{name}")
}
pub(crate) fn containers_of_project(project: &ProjectName) -> String {
    format!("containers:p:{project}")
}
pub(crate) fn containers_on_node(node: &NodeName) -> String {
    format!("containers:n:{node}")
}
pub(crate) fn containers_in_state(state: ContainerState) -> String {
    format!("containers:s:{state}")
}
pub(crate) fn ledger_of_project(project: &ProjectName) -> String {
    format!("ledger:p:{project}")
}
pub(crate) fn sheet(member: &str) -> String {
    format!("sheet:{member}")
}
/// A sheet as an index member: containers in the order of their numbers, each with its sheets in order.
pub(crate) fn sheet_member(id: ContainerId, number: u32) -> String {
    format!("{:020}.{number:010}", id.0)
}
/// What the deleted containers of a project have come to.
pub(crate) fn used_by_deleted(project: &ProjectName) -> String {
    format!("used:p:{project}")
}
pub(crate) fn image(project: &ProjectName, image: &ImageRef) -> String {
    format!("image:{project}:{image}")
}
/// The unfinished job of an image reference.
pub(crate) fn image_job(project: &ProjectName, image: &ImageRef) -> String {
    format!("imagejob:{project}:{image}")
}
pub(crate) fn images_of_project(project: &ProjectName) -> String {
    format!("images:p:{project}")
}
/// An image that was deleted and can be restored. A tag has that or an image.
pub(crate) fn deleted_image(project: &ProjectName, image: &ImageRef) -> String {
    format!("deletedimage:{project}:{image}")
}
/// Tags of one name whose images were deleted and can be restored.
pub(crate) fn deleted_of_name(project: &ProjectName, name: &ImageName) -> String {
    format!("deletedimages:p:{project}:{name}")
}
/// Tags of a project of which something can be restored.
pub(crate) fn undo_of_project(project: &ProjectName) -> String {
    format!("undo:p:{project}")
}
/// A tag in the index of what can be restored.
pub(crate) fn undo_member(project: &ProjectName, image: &ImageRef) -> String {
    format!("{project} {image}")
}
/// Content that nobody can restore.
pub(crate) fn leaving(project: &ProjectName, name: &ImageName, digest: &Digest) -> String {
    format!("leaving:{project}:{name}:{digest}")
}
/// Content in the index of what nobody can restore.
pub(crate) fn leaving_member(project: &ProjectName, name: &ImageName, digest: &Digest) -> String {
    format!("{project} {name} {digest}")
}
pub(crate) fn retention_policy(project: &ProjectName) -> String {
    format!("retentionpolicy:{project}")
}
/// That an image's owner was told of its removal.
pub(crate) fn removal_notice(project: &ProjectName, image: &ImageRef) -> String {
    format!("removalnotice:{project}:{image}")
}
/// Image references that unfinished jobs of a project will write.
pub(crate) fn saving_of_project(project: &ProjectName) -> String {
    format!("saving:p:{project}")
}
/// Counts the saves that a project's quota has let pass: two at once must not both take the last place.
pub(crate) fn quota(project: &ProjectName) -> String {
    format!("quota:{project}")
}
/// Images of a project that have one name, whatever their tags: the ones that share a repository.
pub(crate) fn images_of_name(project: &ProjectName, name: &ImageName) -> String {
    format!("images:p:{project}:{name}")
}
pub(crate) fn node(name: &NodeName) -> String {
    format!("node:{name}")
}
/// The last look at what a container uses.
pub(crate) fn usage(id: ContainerId) -> String {
    format!("usage:{id}")
}
/// That a container's owner was warned of its park.
pub(crate) fn warning(id: ContainerId) -> String {
    format!("warning:{id}")
}
/// How busy a node's GPUs are.
pub(crate) fn gpu_use(name: &NodeName) -> String {
    format!("gpuuse:{name}")
}
pub(crate) fn park_policy(project: &ProjectName) -> String {
    format!("parkpolicy:{project}")
}
pub(crate) fn reservations(name: &NodeName) -> String {
    format!("gpus:{name}")
}
pub(crate) fn project(name: &ProjectName) -> String {
    format!("project:{name}")
}
pub(crate) fn user(name: &UserName) -> String {
    format!("user:{name}")
}
/// Projects that a user is a member of.
pub(crate) fn projects_of_user(user: &UserName) -> String {
    format!("projects:u:{user}")
}
/// A key's record, by the SHA-256 of its secret.
pub(crate) fn key(sha256: &str) -> String {
    format!("key:{sha256}")
}
/// The SHA-256 of a user's keys, by their public ids: members are `id sha256`.
pub(crate) fn keys_of_user(user: &UserName) -> String {
    format!("keys:u:{user}")
}
pub(crate) fn schedule(id: ScheduleId) -> String {
    format!("schedule:{id}")
}
pub(crate) fn schedule_idempotency(user: &UserName, key: &str) -> String {
    format!("idem:schedule:{user}:{key}")
}
pub(crate) fn schedules_of_project(project: &ProjectName) -> String {
    format!("schedules:p:{project}")
}
/// Counts the schedules that were made in a project: two at once must not both take the last place.
pub(crate) fn schedules_made(project: &ProjectName) -> String {
    format!("schedules:made:{project}")
}
/// A run, by its planned time as [`run_member`] writes it.
pub(crate) fn run(id: ScheduleId, member: &str) -> String {
    format!("schedulerun:{id}:{member}")
}
pub(crate) fn runs_of_schedule(id: ScheduleId) -> String {
    format!("schedules:runs:{id}")
}
/// Planned times as index members: milliseconds, padded, so that the order of bytes is the order of time.
pub(crate) fn run_member(planned_at: Timestamp) -> String {
    format!("{:015}", planned_at.as_millisecond())
}
/// A run in the index of those that are not over.
pub(crate) fn run_due_member(id: ScheduleId, planned_at: Timestamp) -> String {
    format!("{id} {}", run_member(planned_at))
}
pub(crate) fn survey(id: SurveyId) -> String {
    format!("survey:{id}")
}
/// The survey that a user asked for last of a container.
pub(crate) fn survey_of(user: &UserName, container: ContainerId) -> String {
    format!("surveyof:{user}:{container}")
}
pub(crate) fn notice(id: NoticeId) -> String {
    format!("notice:{id}")
}
pub(crate) fn delivery(id: DeliveryId) -> String {
    format!("delivery:{id}")
}
pub(crate) fn deliveries_to_webhook(id: WebhookId) -> String {
    format!("deliveries:w:{id}")
}
pub(crate) fn deliveries_to_user(user: &UserName) -> String {
    format!("deliveries:u:{user}")
}
pub(crate) fn webhook(id: WebhookId) -> String {
    format!("webhook:{id}")
}
pub(crate) fn webhooks_of_project(project: &ProjectName) -> String {
    format!("webhooks:p:{project}")
}
/// Counts the webhooks that were made in a project: two at once must not both take the last place.
pub(crate) fn webhooks_made(project: &ProjectName) -> String {
    format!("webhooks:made:{project}")
}
/// What a user wants to be told of.
pub(crate) fn preferences(user: &UserName) -> String {
    format!("preferences:{user}")
}
/// The mark of its budget that a project's admins were told of last.
pub(crate) fn budget_told(project: &ProjectName) -> String {
    format!("budgettold:{project}")
}
/// The container that a link keeps.
pub(crate) fn keep(token: &KeepToken) -> String {
    format!("keep:{}", token.expose())
}
pub(crate) fn audit(member: &str) -> String {
    format!("audit:{member}")
}
pub(crate) fn audit_of_project(project: &ProjectName) -> String {
    format!("audit:p:{project}")
}
