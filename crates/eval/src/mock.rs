//! A candidate without weights: it answers from a table. For tests here and elsewhere, and for trying out a task file
//! before any model is there (with the expected answers it must score 100 %).

use crate::model::{Finish, Identity, Model, Output, Request, Role};
use crate::sample::Sample;
use crate::task::Task;
use crate::{Error, Kind, Result};
use std::collections::HashMap;
use std::ops::ControlFlow;

/// Answers the last user message from a table. Tokens are words; the time of an answer is 0.
#[derive(Clone, Debug)]
pub struct MockModel {
    name: String,
    answers: HashMap<String, String>,
    otherwise: Option<String>,
}

impl MockModel {
    /// Gives `answers[user message]`; a message that is not in the table cannot be answered.
    pub fn table(name: &str, answers: HashMap<String, String>) -> Self {
        MockModel { name: name.to_owned(), answers, otherwise: None }
    }

    /// Gives the same answer to everything.
    pub fn constant(name: &str, answer: &str) -> Self {
        MockModel { name: name.to_owned(), answers: HashMap::new(), otherwise: Some(answer.to_owned()) }
    }

    /// Gives the expected answer to each of `samples`.
    ///
    /// # Errors
    /// When a template cannot be filled for one of them.
    pub fn expected(task: &Task, samples: &[Sample]) -> Result<Self> {
        let mut answers = HashMap::new();
        for sample in samples {
            let messages = task.messages(sample)?;
            answers.insert(last_user(&messages), sample.expected_text());
        }
        Ok(MockModel::table("mock:expected", answers))
    }

    /// Changes one answer.
    pub fn answering(mut self, user_message: &str, answer: &str) -> Self {
        self.answers.insert(user_message.to_owned(), answer.to_owned());
        self
    }
}

fn last_user(messages: &[crate::model::Message]) -> String {
    messages.iter().rev().find(|m| m.role == Role::User).map(|m| m.content.clone()).unwrap_or_default()
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

impl Model for MockModel {
    fn identity(&self) -> Identity {
        let mut pairs: Vec<_> = self.answers.iter().collect();
        pairs.sort();
        let content = serde_json::json!([self.name, pairs, self.otherwise]);
        Identity { name: self.name.clone(), fingerprint: crate::json::fingerprint(&content) }
    }

    fn generate(
        &mut self,
        requests: &[Request],
        on_output: &mut dyn FnMut(usize, Result<Output>) -> ControlFlow<()>,
    ) -> Result<()> {
        for (index, request) in requests.iter().enumerate() {
            let text = self.answers.get(&last_user(&request.messages)).or(self.otherwise.as_ref());
            let prompt_tokens = request.messages.iter().map(|message| words(&message.content)).sum();
            let answer = text.map(|text| Output {
                text: text.clone(),
                finish: Finish::Stop,
                prompt_tokens,
                computed_tokens: prompt_tokens,
                new_tokens: words(text),
                seconds: 0.0,
            });
            let answer =
                answer.ok_or_else(|| Error::new(Kind::Model, "the mock has no answer to this message"));
            if on_output(index, answer).is_break() {
                break;
            }
        }
        Ok(())
    }
}
