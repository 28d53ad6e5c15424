//! The system seen from outside: the real binary, real dockerds, a real registry, and both pairs (embedded, and RabbitMQ with
//! Redis). Each promise of `docs/ARCHITECTURE.md` has its test here; `tests/README.md` is the table.

mod bad_input;
mod broker;
mod cancel_retry;
mod cli;
mod cost;
mod count;
mod dockerd;
mod faults;
mod frozen_window;
mod gpus_nodes;
mod kill_anywhere;
mod kill_api;
mod kill_worker;
mod main_job;
mod never_lost;
mod notify;
mod policies;
mod preflight;
mod races;
mod redis;
mod registry_faults;
mod registry_truth;
mod retention;
mod schedules;
mod steps_twice;
mod ten_rounds;
mod usage;
mod volumes;
mod whole_tree;
