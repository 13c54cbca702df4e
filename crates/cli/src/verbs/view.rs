//! `underdog view [FOLDER]`: the runs of a folder in the browser, until Ctrl-C.

use crate::arguments::ViewArguments;
use crate::environment::Environment;
use crate::output::Output;
use crate::view::Server;
use serde_json::json;
use underdog_eval::{Error, Kind, Result};

/// Runs the verb.
pub fn run(arguments: &ViewArguments, environment: &Environment, output: &Output) -> Result<()> {
    if !arguments.folder.is_dir() {
        return Err(Error::new(Kind::Usage, "there is no folder with runs here")
            .at(arguments.folder.display().to_string())
            .hint("name the folder that holds the runs: underdog view FOLDER"));
    }
    let server = Server::bind(&arguments.folder, (arguments.host, arguments.port), &environment.cache)?;
    if !arguments.host.is_loopback() {
        output.say("everyone who reaches this address can read all inputs and answers of these runs");
    }
    let object = json!({"url": server.url(), "folder": arguments.folder.display().to_string()});
    output
        .result(&object, || format!("{} shows the runs in {}", server.url(), arguments.folder.display()))?;
    server.serve(environment)
}
