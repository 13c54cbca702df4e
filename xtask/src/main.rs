//! Development tasks of this repository, run as `cargo xtask TASK`: `tidy` checks the rules that a program can check,
//! `reference` regenerates the expected numbers of the tests, `bench` measures and keeps what it measured, `generate` makes the parts
//! of documents that follow from kept measurements, `results` measures the built-in tasks and writes their page.
//!
//! It knows the repository as files and text and depends on no crate of the house, so it works while they do not build.

// A development tool speaks to the terminal; the lint guards the libraries.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod generate;
mod reference;
mod repository;
mod results;
mod source;
mod tidy;

use std::process::ExitCode;

/// What `cargo xtask` alone prints.
const TASKS: &str = "\
cargo xtask tidy                  checks the rules of ARCHITECTURE.md that a program can check
cargo xtask reference             prints how the expected numbers in the tests are made
cargo xtask reference --run PYTHON [--weights FOLDER]
                                  makes them anew; FOLDER is the model cache (without it, tiny models only)
cargo xtask results               writes docs/results.md from the summaries in bench/results; --check only compares
cargo xtask results --run [--underdog PATH] [--only TASK] [--model NAME]
                                  first measures what bench/results.toml lists and bench/results lacks: hours
cargo xtask bench [NAME...] [--python PYTHON] [--peers FOLDER] [--long-text FILE] [--repeats N]
                                  measures matmul, train, decode, growth, loss and marks, and keeps raw results in bench/runs;
                                  matmul and marks beside PyTorch and the peers, where PYTHON and the folder of their scripts are named
cargo xtask generate [--check]    makes the parts of documents that follow from kept results; --check only compares";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        [] | ["help" | "--help" | "-h"] => {
            println!("{TASKS}");
            Ok(true)
        }
        ["tidy"] => repository::root().and_then(|root| tidy::run(&root)),
        ["bench", options @ ..] => repository::root().and_then(|root| bench::run(&root, options)),
        ["generate"] => repository::root().and_then(|root| generate::run(&root, false)),
        ["generate", "--check"] => repository::root().and_then(|root| generate::run(&root, true)),
        ["reference", options @ ..] => repository::root().and_then(|root| reference::run(&root, options)),
        ["results", options @ ..] => repository::root().and_then(|root| results::run(&root, options)),
        _ => Err(format!("there is no task `{}`\n\n{TASKS}", words.join(" "))),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("xtask: {fault}");
            ExitCode::from(2)
        }
    }
}
