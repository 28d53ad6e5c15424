//! How many failures the suites inject: a figure to read, and a sum that grows with every row.

use crate::{broker, dockerd, kill_api, kill_worker, redis, registry_faults, steps_twice};

#[test]
fn failure_cases() {
    let on_both_pairs = [
        ("the worker dies or is stopped", kill_worker::cases()),
        ("Docker Engine is restarted", dockerd::cases()),
        ("the registry fails", registry_faults::cases()),
        ("a step is done and not heard of, or refused", steps_twice::cases()),
    ];
    let on_servers = [
        ("the API and the scheduler die", kill_api::cases()),
        ("the broker fails", broker::cases()),
        ("the store fails", redis::cases()),
    ];
    let rows = on_both_pairs.map(|(what, count)| (what, 2 * count)).into_iter().chain(on_servers);
    let all: usize = rows
        .inspect(|(what, count)| println!("{count:4} failure cases: {what}"))
        .map(|(_, count)| count)
        .sum();
    println!("{all:4} failure cases in all");
    assert!(all > 200, "cases went missing");
}
