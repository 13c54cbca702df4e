//! `underdog chat M`: a conversation on a terminal, or one answer for what comes down a pipe.

use crate::arguments::ChatArguments;
use crate::environment::Environment;
use crate::output::Output;
use crate::verbs::candidate::{ENCODER, encoder, say_shown};
use crate::verbs::load_model;
use serde_json::json;
use std::io::{BufRead, IsTerminal, Read};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use underdog_eval::few_shot::{Shots, Similar};
use underdog_eval::model::{Message, Request, Role};
use underdog_eval::split::{ReadOptions, Split};
use underdog_eval::task::Task;
use underdog_eval::{Error, Kind, Result};
use underdog_model::language_model::LanguageModel;

/// Runs the verb.
pub fn run(arguments: &ChatArguments, environment: &Environment, output: &Output) -> Result<()> {
    let mut task = arguments.task.as_deref().map(Task::load).transpose()?;
    if let Some(file) = &arguments.train_data {
        task = task.map(|task| task.with_data(Split::Train, file));
    }
    if let Some(task) = &task {
        task.require_typed()?;
    }
    let decoding = arguments.decoding.decoding(arguments.seed)?;
    let mut model = load_model(&arguments.model, &arguments.precision, environment, output)?;
    model.decoding = decoding;
    let similar = similar((&model, arguments.shots), task.as_ref(), environment, output)?;
    let prompt = ChatPrompt { task, system: arguments.system.clone(), similar };
    let talk = Talk { model: &model, environment, output, max_new_tokens: arguments.max_new_tokens };
    if std::io::stdin().is_terminal() && !output.json {
        return talk.converse(&prompt);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|e| {
        Error::new(Kind::Data, "cannot read the message from stdin")
            .expected("UTF-8 text")
            .found(e.to_string())
    })?;
    let mut messages = Vec::new();
    prompt.add_turn(&mut messages, text.trim_end_matches('\n'))?;
    let answer = talk.answer(&messages, !output.json)?;
    match output.json {
        true => output.result(&json!({"model": arguments.model, "text": answer.text, "finish": answer.finish,
            "prompt_tokens": answer.prompt_tokens, "new_tokens": answer.new_tokens, "seconds": answer.seconds}), String::new),
        false => output.print("\n"),
    }
}

/// The rows to show before the first question: as many as somebody asked for, else as the adapter was trained with.
fn similar(
    (model, asked): (&LanguageModel, Option<usize>),
    task: Option<&Task>,
    environment: &Environment,
    output: &Output,
) -> Result<Option<Similar>> {
    let shots = Shots { count: asked.unwrap_or(model.shots()), within: None };
    match task {
        _ if shots.count == 0 => Ok(None),
        Some(task) => {
            if asked.is_none() {
                say_shown(shots.count, output);
            }
            let rows = task.train(&ReadOptions { skip_bad_rows: true, allow_leakage: true })?;
            Similar::new(shots, task, &rows, encoder(ENCODER, environment, output)?).map(Some)
        }
        None => {
            output.say(&format!(
                "The adapter was trained with {} similar rows before every question; name its --task to have them shown.",
                shots.count
            ));
            Ok(None)
        }
    }
}

/// How typed text becomes messages: by the templates of a task, as in training, or as it is.
struct ChatPrompt {
    task: Option<Task>,
    system: Option<String>,
    /// Rows like the first question stand before it.
    similar: Option<Similar>,
}

impl ChatPrompt {
    /// Adds the turn of the person who types; before the first one, the system message.
    fn add_turn(&self, messages: &mut Vec<Message>, text: &str) -> Result<()> {
        let turn = match &self.task {
            Some(task) => task.typed(text)?,
            None => {
                let system = self.system.as_ref().map(|system| system.trim().to_string());
                let system = system.map(|content| Message { role: Role::System, content });
                let user = Message { role: Role::User, content: text.to_string() };
                system.into_iter().chain([user]).collect()
            }
        };
        let first = messages.is_empty();
        let turn = match &self.similar {
            Some(similar) if first => similar.show(&[&turn], &|_| None)?.into_iter().flatten().collect(),
            _ => turn,
        };
        messages.extend(turn.into_iter().filter(|message| first || message.role != Role::System));
        Ok(())
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

    fn converse(&self, prompt: &ChatPrompt) -> Result<()> {
        let mut messages = Vec::new();
        self.output.say("Type a message and press Enter; an empty line or Ctrl-D ends the conversation.");
        self.environment.idle.store(true, Ordering::Relaxed);
        for line in std::io::stdin().lock().lines() {
            self.environment.idle.store(false, Ordering::Relaxed);
            let line =
                line.map_err(|e| Error::new(Kind::Data, "cannot read the message").found(e.to_string()))?;
            if line.trim().is_empty() {
                break;
            }
            prompt.add_turn(&mut messages, &line)?;
            let answer = self.answer(&messages, true)?;
            self.output.print("\n\n")?;
            messages.push(Message { role: Role::Assistant, content: answer.text });
            self.environment.idle.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_turn_goes_through_the_templates_and_the_system_message_comes_once() {
        let folder = tempfile::tempdir().unwrap();
        let toml = "version = 1\nname = \"t\"\nmax_new_tokens = 1\nscore = \"s\"\ndata = {}\n\
                    prompt = { system = \"Be brief.\", user = \"Q: {{ input }}\" }\n\
                    check = [{ name = \"c\", kind = \"exact\" }]\nmetric = [{ name = \"s\", checks = [\"c\"] }]\n";
        std::fs::write(folder.path().join("task.toml"), toml).unwrap();
        let texts = |prompt: &ChatPrompt| {
            let mut messages = Vec::new();
            prompt.add_turn(&mut messages, "one").unwrap();
            messages.push(Message { role: Role::Assistant, content: "1".into() });
            prompt.add_turn(&mut messages, "two").unwrap();
            messages.into_iter().map(|message| message.content).collect::<Vec<_>>()
        };
        let task = Some(Task::load(folder.path()).unwrap());
        assert_eq!(
            texts(&ChatPrompt { task, system: None, similar: None }),
            ["Be brief.", "Q: one", "1", "Q: two"]
        );
        let system = Some(" Hello. ".to_string());
        assert_eq!(texts(&ChatPrompt { task: None, system, similar: None }), ["Hello.", "one", "1", "two"]);
    }
}
