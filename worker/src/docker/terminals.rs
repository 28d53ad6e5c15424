//! Terminals that people have open in a container.

use super::container::found;
use super::{DockerError, Engine};
use bollard::query_parameters::TopOptionsBuilder;
use std::collections::BTreeSet;

impl Engine {
    /// How many terminals are open in a container beside the one of its first process; 0 when it does not exist. One that
    /// does not run is an error.
    pub async fn terminals(&self, container: &str, first_pid: Option<u32>) -> Result<u32, DockerError> {
        let options = TopOptionsBuilder::default().ps_args("-eo pid,tty").build();
        let answer = self
            .call("list processes", self.limits.call, |d| async move {
                d.top_processes(container, Some(options)).await
            })
            .await;
        let rows = found(answer)?.and_then(|top| top.processes).unwrap_or_default();
        Ok(count(&rows, first_pid))
    }
}

fn count(rows: &[Vec<String>], first_pid: Option<u32>) -> u32 {
    let terminal = |row: &[String]| row.get(1).filter(|tty| *tty != "?" && !tty.is_empty()).cloned();
    let first = first_pid.map(|pid| pid.to_string());
    let own = rows.iter().find(|row| row.first() == first.as_ref()).and_then(|row| terminal(row));
    let all: BTreeSet<String> = rows.iter().filter_map(|row| terminal(row)).collect();
    all.iter().filter(|tty| Some(*tty) != own.as_ref()).count() as u32
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn each_terminal_counts_once_and_the_first_processs_own_not_at_all() {
        let rows: Vec<Vec<String>> =
            [("10", "pts/0"), ("11", "?"), ("12", "pts/1"), ("13", "pts/1"), ("14", "pts/2")]
                .iter()
                .map(|(pid, tty)| vec![(*pid).to_owned(), (*tty).to_owned()])
                .collect();
        assert_eq!(count(&rows, Some(10)), 2);
        assert_eq!(count(&rows, Some(11)), 3);
        assert_eq!(count(&rows, None), 3);
        assert_eq!(count(&[], Some(10)), 0);
    }
}
