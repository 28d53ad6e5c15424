//! Which node a launch goes to.

use crate::name::NodeName;
use crate::node::{Node, Reservations};

/// A node that may be chosen.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The node.
    pub node: Node,
    /// What is held on it.
    pub reservations: Reservations,
    /// Whether its worker reported lately.
    pub alive: bool,
}

/// Where a launch goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// To this node, with these GPUs.
    Place {
        /// The node.
        node: NodeName,
        /// Indexes of the GPUs it gets.
        gpus: Vec<u32>,
    },
    /// Nowhere yet, and why, in words for the job's `waiting_for`.
    Wait(String),
}

/// Chooses the node where `gpus` fit most tightly (fewest GPUs left free), so that large gaps stay for
/// large launches; among equals the one with fewest containers, then by name.
pub fn place(candidates: &[Candidate], gpus: u32) -> Placement {
    let usable = || candidates.iter().filter(|c| c.alive && !c.node.drained);
    let mut fitting: Vec<(usize, usize, &NodeName, Vec<u32>)> = usable()
        .filter_map(|c| {
            let chosen = c.reservations.free(&c.node.report.gpus, gpus)?;
            // A node that lost a GPU may hold more than it has.
            let taken = c.reservations.gpus_held() + chosen.len();
            let left = c.node.report.gpus.len().saturating_sub(taken);
            Some((left, c.reservations.held.len(), &c.node.name, chosen))
        })
        .collect();
    fitting.sort();
    if let Some((_, _, node, gpus)) = fitting.into_iter().next() {
        return Placement::Place { node: node.clone(), gpus };
    }
    if usable().next().is_none() {
        let drained = candidates.iter().filter(|c| c.alive).count();
        return Placement::Wait(if drained > 0 {
            "a node that is not drained".to_owned()
        } else {
            "a live node: no worker has reported lately".to_owned()
        });
    }
    let largest = usable().map(|c| c.node.report.gpus.len()).max().unwrap_or(0);
    Placement::Wait(if (largest as u32) < gpus {
        format!("a node with {gpus} GPUs: the largest live node has {largest}")
    } else {
        format!("{gpus} free GPUs on one node")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ContainerId;
    use crate::node::{Gpu, NodeReport};
    use jiff::Timestamp;
    use proptest::prelude::*;

    fn candidate(name: &str, gpus: u32, held: &[u32]) -> Candidate {
        let gpus =
            (0..gpus).map(|index| Gpu { index, uuid: format!("GPU-{index}"), name: "V100".into() }).collect();
        let node = Node {
            name: NodeName::new(name).unwrap(),
            uid: String::new(),
            instance: String::new(),
            drained: false,
            heartbeat_at: Timestamp::UNIX_EPOCH,
            created_at: Timestamp::UNIX_EPOCH,
            stopped_at: None,
            report: NodeReport { gpus, ..NodeReport::default() },
            strays: Vec::new(),
        };
        let mut reservations = Reservations::default();
        for (i, index) in held.iter().enumerate() {
            reservations.held.insert(ContainerId(i as u64 + 1), vec![*index]);
        }
        Candidate { node, reservations, alive: true }
    }

    fn placed(placement: &Placement) -> (&str, &[u32]) {
        match placement {
            Placement::Place { node, gpus } => (node.as_str(), gpus),
            Placement::Wait(why) => (why, &[]),
        }
    }

    #[test]
    fn the_tightest_fit_wins() {
        let nodes = [candidate("a", 8, &[]), candidate("b", 2, &[1]), candidate("c", 2, &[])];
        assert_eq!(placed(&place(&nodes, 1)), ("b", &[0][..]));
        assert_eq!(placed(&place(&nodes, 2)), ("c", &[0, 1][..]));
        assert_eq!(placed(&place(&nodes, 4)), ("a", &[0, 1, 2, 3][..]));
        assert_eq!(placed(&place(&nodes, 9)).0, "a node with 9 GPUs: the largest live node has 8");
    }

    #[test]
    fn it_says_what_it_waits_for() {
        let mut dead = candidate("a", 1, &[]);
        dead.alive = false;
        let mut drained = candidate("b", 1, &[]);
        drained.node.drained = true;
        assert!(placed(&place(&[], 0)).0.contains("live node"));
        assert!(placed(&place(&[dead], 0)).0.contains("live node"));
        assert!(placed(&place(&[drained], 0)).0.contains("not drained"));
        assert_eq!(placed(&place(&[candidate("c", 2, &[0])], 2)).0, "2 free GPUs on one node");
    }

    #[test]
    fn a_node_that_lost_a_gpu_still_takes_containers_without() {
        let mut node = candidate("a", 2, &[0, 1]);
        node.node.report.gpus.pop();
        assert_eq!(placed(&place(&[node.clone()], 0)).0, "a");
        assert_eq!(placed(&place(&[node], 1)).0, "1 free GPUs on one node");
    }

    proptest! {
        #[test]
        fn never_gives_a_held_gpu_nor_fewer_than_asked(total in 0..9u32, held in prop::collection::btree_set(0..9u32, 0..9), want in 0..9u32) {
            let held: Vec<u32> = held.into_iter().filter(|i| *i < total).collect();
            match place(&[candidate("a", total, &held)], want) {
                Placement::Place { gpus, .. } => {
                    prop_assert_eq!(gpus.len(), want as usize);
                    prop_assert!(gpus.iter().all(|g| *g < total && !held.contains(g)));
                }
                Placement::Wait(_) => prop_assert!(total as usize - held.len() < want as usize),
            }
        }
    }
}
