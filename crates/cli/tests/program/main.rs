//! The program from outside, as a person or a script uses it: the tiny model, a small task in a folder of its own, and what
//! comes out on stdout, on stderr, as the exit code and on the disk.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod advising;
mod asking;
mod bad_input;
#[path = "../../../model/tests/common/mod.rs"]
mod common;
mod comparing;
mod documents;
mod exporting;
mod home;
#[cfg(unix)]
mod interrupted;
mod machine;
mod results;
