//! `mothball doctor`: checks everything that the server needs, from where the server runs, and says what to do.

mod machine;
mod servers;

use crate::commands::ConfigFile;
use crate::context::Context;
use crate::exit::Fail;
use crate::output;
use clap::Args;
use serde::Serialize;
use std::time::Duration;
use tokio::time::timeout;

/// How long one check may take.
const CHECK_LIMIT: Duration = Duration::from_secs(45);

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    file: ConfigFile,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// What was looked at, how it is, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) verdict: Verdict,
    pub(crate) found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), advice: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fail, found: found.into(), advice: Some(advice.into()) }
    }
}

pub(crate) async fn run(args: DoctorArgs, cx: &Context) -> Result<(), Fail> {
    let settings = args.file.load(cx)?;
    // All at once: one server that does not answer must not make the others wait.
    let (store, queue, registry, docker, mail) = tokio::join!(
        limited("store", servers::store(&settings)),
        limited("queue", servers::queue(&settings)),
        limited("registry", servers::registry(&settings)),
        limited("docker", machine::docker(&settings)),
        limited("mail", servers::mail(&settings)),
    );
    let findings: Vec<Finding> =
        [store, queue, registry, mail, docker, machine::gpus(&settings).await, machine::disk(&settings)]
            .concat();
    cx.show(&findings, |all| all.iter().map(said).collect::<Vec<_>>().join("\n"))?;
    let failed = findings.iter().filter(|f| f.verdict == Verdict::Fail).count();
    if failed == 0 {
        return Ok(());
    }
    Err(Fail::failed(format!("{failed} of {} checks failed", findings.len())))
}

async fn limited(check: &'static str, work: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    timeout(CHECK_LIMIT, work).await.unwrap_or_else(|_| {
        let found = format!("no answer within {} s", CHECK_LIMIT.as_secs());
        vec![Finding::fail(
            check,
            found,
            "see whether it is overloaded, and whether the network loses packets",
        )]
    })
}

fn said(finding: &Finding) -> String {
    let verdict = match finding.verdict {
        Verdict::Ok => "ok  ",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
    };
    let advice =
        finding.advice.as_ref().map(|a| format!("\n{:20}{}", "", output::clean(a))).unwrap_or_default();
    format!("{verdict}  {:12}  {}{advice}", finding.check, output::clean(&finding.found))
}
