//! `underdog chat M`: a conversation on a terminal, or one answer for what comes down a pipe.

use crate::arguments::ChatArguments;
use crate::environment::Environment;
use crate::output::Output;
use crate::verbs::load_model;
use serde_json::json;
use std::io::{BufRead, IsTerminal, Read};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use underdog_eval::model::{Message, Request, Role};
use underdog_eval::task::Task;
use underdog_eval::{Error, Kind, Result};
use underdog_model::language_model::LanguageModel;

/// Runs the verb.
pub fn run(arguments: &ChatArguments, environment: &Environment, output: &Output) -> Result<()> {
    let system = match &arguments.task {
        Some(folder) => Task::load(folder)?.prompt.system,
        None => arguments.system.clone(),
    };
    let model = load_model(&arguments.model, &arguments.precision, environment, output)?;
    let opening = system.map(|content| Message { role: Role::System, content: content.trim().to_string() });
    let talk = Talk { model: &model, environment, output, max_new_tokens: arguments.max_new_tokens };
    if std::io::stdin().is_terminal() && !output.json {
        return talk.converse(opening.into_iter().collect());
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|e| {
        Error::new(Kind::Data, "cannot read the message from stdin")
            .expected("UTF-8 text")
            .found(e.to_string())
    })?;
    let message = Message { role: Role::User, content: text.trim_end_matches('\n').to_string() };
    let messages: Vec<Message> = opening.into_iter().chain([message]).collect();
    let answer = talk.answer(&messages, !output.json)?;
    match output.json {
        true => output.result(&json!({"model": arguments.model, "text": answer.text, "finish": answer.finish,
            "prompt_tokens": answer.prompt_tokens, "new_tokens": answer.new_tokens, "seconds": answer.seconds}), String::new),
        false => output.print("\n"),
    }
}

struct Talk<'a> {
    model: &'a LanguageModel,
    environment: &'a Environment,
    output: &'a Output,
    max_new_tokens: usize,
}

impl Talk<'_> {
    fn answer(&self, messages: &[Message], show: bool) -> Result<underdog_eval::model::Output> {
        let request = Request { messages: messages.to_vec(), max_new_tokens: self.max_new_tokens };
        self.model.stream(&request, &mut |piece| {
            let shown = if show { self.output.print(piece) } else { Ok(()) };
            if shown.is_err() || self.environment.stopped() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
    }

    fn converse(&self, mut messages: Vec<Message>) -> Result<()> {
        self.output.say("Type a message and press Enter; an empty line or Ctrl-D ends the conversation.");
        self.environment.idle.store(true, Ordering::Relaxed);
        for line in std::io::stdin().lock().lines() {
            self.environment.idle.store(false, Ordering::Relaxed);
            let line =
                line.map_err(|e| Error::new(Kind::Data, "cannot read the message").found(e.to_string()))?;
            if line.trim().is_empty() {
                break;
            }
            messages.push(Message { role: Role::User, content: line });
            let answer = self.answer(&messages, true)?;
            self.output.print("\n\n")?;
            messages.push(Message { role: Role::Assistant, content: answer.text });
            self.environment.idle.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}
