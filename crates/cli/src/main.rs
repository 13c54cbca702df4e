//! The command line: arguments as typed (`arguments`) → one function a verb (`verbs`) → what is printed (`output`).
//!
//! The only crate that prints, reads the environment, handles signals or exits. Talk goes to stderr; stdout carries the
//! result, with `--json` exactly one object.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this crate is the one that speaks to the terminal"
)]

mod arguments;
mod environment;
mod memory;
mod output;
mod progress;
mod records;
mod run_folder;
mod verbs;
mod view;

use arguments::{Arguments, Verb};
use clap::Parser;
use clap::error::ErrorKind;
use environment::Environment;
use output::Output;
use std::process::ExitCode;
use underdog_eval::{Error, Kind};

fn main() -> ExitCode {
    underdog_tensor::memory::keep_freed_memory();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return arguments_error(&error),
    };
    let output = Output { json: arguments.json };
    if arguments.verb.computes() && underdog_tensor::tiles::state() == underdog_tensor::tiles::State::Refused
    {
        output.say(
            "note: the kernel refuses this process the AMX registers; it computes without them, and slower",
        );
    }
    let result = Environment::resolve(arguments.threads).and_then(|environment| match &arguments.verb {
        Verb::Models(verb) => verbs::models::run(verb, &environment, &output),
        Verb::Eval(verb) => verbs::eval::run(verb, &environment, &output),
        Verb::Train(verb) => verbs::train::run(verb, &environment, &output),
        Verb::Run(verb) => verbs::run::run(verb, &environment, &output),
        Verb::Advise(verb) => verbs::advise::run(verb, &environment, &output),
        Verb::Chat(verb) => verbs::chat::run(verb, &environment, &output),
        Verb::Compare(verb) => verbs::compare::run(verb, &environment, &output),
        Verb::Report(verb) => verbs::report::run(verb, &environment, &output),
        Verb::View(verb) => verbs::view::run(verb, &environment, &output),
        Verb::Plan(verb) => verbs::plan::run(verb, &output),
        Verb::Export(verb) => verbs::export::run(verb, &environment, &output),
        Verb::Bench(verb) => verbs::bench::run(verb, &environment, &output),
        Verb::Doctor => verbs::doctor::run(&output),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.kind().exit_code())
        }
    }
}

/// Help and version are results; anything else is a wrong request, with `--json` also as an object.
fn arguments_error(error: &clap::Error) -> ExitCode {
    // Nothing is left to do where even this cannot be printed.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    // Not `args`, which panics where an argument is not UTF-8.
    if std::env::args_os().any(|argument| argument == "--json") {
        let incomplete = [ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, ErrorKind::MissingSubcommand];
        let error = if incomplete.contains(&error.kind()) {
            Error::new(Kind::Usage, "the command lacks a verb").expected("one of those that --help lists")
        } else {
            let text = error.to_string();
            let mut lines = text.lines();
            let what = lines.next().unwrap_or_default().trim_start_matches("error: ");
            // The arguments that are meant stand on lines of their own, up to an empty one.
            let named: Vec<&str> = lines.take_while(|line| !line.is_empty()).map(str::trim).collect();
            match named.is_empty() {
                true => Error::new(Kind::Usage, what),
                false => Error::new(Kind::Usage, what.trim_end_matches(':')).expected(named.join(", ")),
            }
        };
        Output { json: true }.error_object(&error);
    }
    ExitCode::from(Kind::Usage.exit_code())
}
