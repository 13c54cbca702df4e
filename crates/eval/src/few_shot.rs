//! Similar examples in the prompt: a candidate that is shown, before each question, how the most similar training rows
//! were answered. What an untrained model gains from that is what training has to beat; a model can be trained with them, too.

use crate::baseline::{last_user, user_texts};
use crate::embedder::{self, SharedEmbedder};
use crate::model::{Identity, Message, Model, Output, Request, Role};
use crate::split::{Rows, Train};
use crate::task::Task;
use crate::{Error, Kind, Result, json};
use std::ops::ControlFlow;

/// Changes when the same rows make other prompts, so that records do not mix.
const EDITION: u32 = 1;

/// Training rows to show before a question: the most similar ones, as earlier turns of the conversation.
pub struct Similar {
    shots: usize,
    embedder: SharedEmbedder,
    /// Question and answer of each training row.
    examples: Vec<(String, String)>,
    vectors: Vec<Vec<f32>>,
}

impl Similar {
    /// The `shots` most similar of `train`.
    ///
    /// # Errors
    /// When `shots` is 0, a prompt cannot be made, or an answer is empty.
    pub fn new(shots: usize, task: &Task, train: &Rows<Train>, embedder: SharedEmbedder) -> Result<Self> {
        if shots == 0 {
            return Err(Error::new(Kind::Usage, "examples in the prompt").expected("1 or more").found("0"));
        }
        let questions = user_texts(task, train.samples())?;
        let vectors = embedder::embed(&embedder, &questions.iter().map(String::as_str).collect::<Vec<_>>())?;
        let answers = train.samples().iter().map(|sample| task.completion(sample));
        let examples: Vec<(String, String)> = questions
            .into_iter()
            .zip(answers)
            .map(|(question, answer)| Ok((question, answer?)))
            .collect::<Result<_>>()?;
        Ok(Similar { shots, embedder, examples, vectors })
    }

    /// Changes when the same question may get other examples.
    pub fn fingerprint(&self) -> String {
        let encoder = embedder::identity(&self.embedder).fingerprint;
        json::fingerprint(&serde_json::json!([EDITION, self.shots, encoder, self.examples]))
    }

    /// Each conversation with its examples before the last question, the most similar one next to it. A row whose question
    /// is the very same is never one of them: a training row would give its own answer away.
    ///
    /// # Errors
    /// When a question cannot be embedded.
    pub fn show(&self, conversations: &[&[Message]]) -> Result<Vec<Vec<Message>>> {
        let questions: Vec<&str> = conversations.iter().map(|messages| last_user(messages)).collect();
        let vectors = embedder::embed(&self.embedder, &questions)?;
        // Some more than needed, because the question itself may be among them.
        let similar = embedder::most_similar(&self.vectors, &vectors, self.shots + 2);
        Ok(conversations
            .iter()
            .zip(&similar)
            .map(|(messages, rows)| self.with_examples(messages, rows))
            .collect())
    }

    fn with_examples(&self, messages: &[Message], similar: &[usize]) -> Vec<Message> {
        let question = last_user(messages);
        let mut shown: Vec<_> =
            similar.iter().map(|&row| &self.examples[row]).filter(|(other, _)| other != question).collect();
        shown.truncate(self.shots);
        let turns = shown.into_iter().rev().flat_map(|(question, answer)| {
            [(Role::User, question), (Role::Assistant, answer)]
                .map(|(role, content)| Message { role, content: content.clone() })
        });
        let place = messages.iter().rposition(|m| m.role == Role::User).unwrap_or(0);
        let (before, after) = messages.split_at(place);
        before.iter().cloned().chain(turns).chain(after.iter().cloned()).collect()
    }
}

/// A candidate with examples in front of every question.
pub struct FewShot<'a> {
    model: Box<dyn Model + 'a>,
    similar: Similar,
}

impl<'a> FewShot<'a> {
    /// `model` with `similar` training rows in front of every question.
    pub fn new(model: Box<dyn Model + 'a>, similar: Similar) -> Self {
        FewShot { model, similar }
    }
}

impl Model for FewShot<'_> {
    fn identity(&self) -> Identity {
        let Identity { name, fingerprint } = self.model.identity();
        Identity {
            name: format!("{name}?shots={}", self.similar.shots),
            fingerprint: format!("{fingerprint} {}", self.similar.fingerprint()),
        }
    }

    fn generate(
        &mut self,
        requests: &[Request],
        on_output: &mut dyn FnMut(usize, Result<Output>) -> ControlFlow<()>,
    ) -> Result<()> {
        let conversations: Vec<&[Message]> = requests.iter().map(|request| &request.messages[..]).collect();
        let shown = self.similar.show(&conversations)?;
        let limits = requests.iter().map(|request| request.max_new_tokens);
        let with_examples = |(messages, max_new_tokens)| Request { messages, max_new_tokens };
        let requests: Vec<Request> = shown.into_iter().zip(limits).map(with_examples).collect();
        self.model.generate(&requests, on_output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::ReadOptions;
    use crate::test_support::Letters;
    use std::sync::{Arc, Mutex};

    /// Answers with its prompt.
    struct Echo;

    impl Model for Echo {
        fn identity(&self) -> Identity {
            Identity { name: "echo".into(), fingerprint: "e".into() }
        }

        fn generate(
            &mut self,
            requests: &[Request],
            on_output: &mut dyn FnMut(usize, Result<Output>) -> ControlFlow<()>,
        ) -> Result<()> {
            for (index, request) in requests.iter().enumerate() {
                let turns: Vec<String> =
                    request.messages.iter().map(|m| format!("{:?}:{}", m.role, m.content)).collect();
                let text = turns.join("|");
                let output = Output {
                    text,
                    finish: crate::model::Finish::Stop,
                    prompt_tokens: 0,
                    computed_tokens: 0,
                    new_tokens: 0,
                    seconds: 0.0,
                };
                let _ = on_output(index, Ok(output));
            }
            Ok(())
        }
    }

    fn setup(folder: &std::path::Path) -> (Task, Rows<Train>) {
        let toml = "version = 1\nname = \"t\"\nmax_new_tokens = 1\nscore = \"s\"\ndata = { train = \"train.jsonl\" }\n\
                    prompt = { system = \"S\", user = \"{{ input }}\" }\n\
                    check = [{ name = \"c\", kind = \"exact\" }]\nmetric = [{ name = \"s\", checks = [\"c\"] }]\n";
        std::fs::write(folder.join("task.toml"), toml).unwrap();
        let rows: String = [("aaa", "1"), ("abb", "2"), ("bbb", "3"), ("ccc", "4")]
            .map(|(input, answer)| format!("{{\"input\": \"{input}\", \"expected\": \"{answer}\"}}\n"))
            .concat();
        std::fs::write(folder.join("train.jsonl"), rows).unwrap();
        let task = Task::load(folder).unwrap();
        let train = task.train(&ReadOptions::default()).unwrap();
        (task, train)
    }

    fn ask(task: &Task, train: &Rows<Train>, shots: usize, question: &str) -> (String, Identity) {
        let embedder: SharedEmbedder = Arc::new(Mutex::new(Letters));
        let mut model = FewShot::new(Box::new(Echo), Similar::new(shots, task, train, embedder).unwrap());
        let message = |role, content: &str| Message { role, content: content.into() };
        let messages = vec![message(Role::System, "S"), message(Role::User, question)];
        let mut text = String::new();
        let request = Request { messages, max_new_tokens: 1 };
        model
            .generate(&[request], &mut |_, output| {
                text = output.unwrap().text;
                ControlFlow::Continue(())
            })
            .unwrap();
        (text, model.identity())
    }

    #[test]
    fn the_most_similar_rows_come_before_the_question_the_nearest_last() {
        let folder = tempfile::tempdir().unwrap();
        let (task, train) = setup(folder.path());
        let (text, identity) = ask(&task, &train, 2, "aab");
        assert_eq!(text, "System:S|User:abb|Assistant:2|User:aaa|Assistant:1|User:aab");
        assert_eq!(identity.name, "echo?shots=2");
        let (text, other) = ask(&task, &train, 1, "aaa");
        assert_eq!(text, "System:S|User:abb|Assistant:2|User:aaa", "never the row itself");
        assert_ne!(identity.fingerprint, other.fingerprint);
        let (text, _) = ask(&task, &train, 9, "c");
        assert_eq!(text.matches("Assistant").count(), 4);
    }

    #[test]
    fn no_examples_are_no_candidate() {
        let folder = tempfile::tempdir().unwrap();
        let (task, train) = setup(folder.path());
        let embedder: SharedEmbedder = Arc::new(Mutex::new(Letters));
        assert!(Similar::new(0, &task, &train, embedder).is_err());
    }
}
