//! Similar examples in the prompt: a candidate that is shown, before each question, how the most similar training rows
//! were answered. What an untrained model gains from that is what training has to beat.

use crate::baseline::{last_user, user_texts};
use crate::embedder::{self, SharedEmbedder};
use crate::model::{Identity, Message, Model, Output, Request, Role};
use crate::split::{Rows, Train};
use crate::task::Task;
use crate::{Error, Kind, Result, json};
use std::ops::ControlFlow;

/// Changes when the same rows make other prompts, so that records do not mix.
const EDITION: u32 = 1;

/// How many examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shots {
    /// At most so many, 1 or more.
    pub count: usize,
    /// Fewer where the prompt would be longer than so many tokens, if the candidate counts them.
    pub within: Option<usize>,
}

impl std::fmt::Display for Shots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.count)?;
        self.within.map_or(Ok(()), |tokens| write!(f, ",{tokens}"))
    }
}

impl std::str::FromStr for Shots {
    type Err = Error;

    /// `4`, or `4,2000` for prompts of at most 2,000 tokens.
    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| text.parse::<usize>().ok().filter(|number| *number > 0);
        let parsed = match text.split_once(',') {
            None => number(text).map(|count| Shots { count, within: None }),
            Some((count, within)) => {
                number(count).zip(number(within)).map(|(count, w)| Shots { count, within: Some(w) })
            }
        };
        parsed.ok_or_else(|| {
            Error::new(Kind::Usage, "examples in the prompt")
                .expected("a number of 1 or more, or two with a comma: examples, and tokens of a prompt")
                .found(format!("`{text}`"))
        })
    }
}

/// A candidate with examples in front of every question.
pub struct FewShot<'a> {
    model: Box<dyn Model + 'a>,
    shots: Shots,
    embedder: SharedEmbedder,
    /// Question and answer of each training row.
    examples: Vec<(String, String)>,
    vectors: Vec<Vec<f32>>,
    fingerprint: String,
}

impl<'a> FewShot<'a> {
    /// `model` with the `shots` most similar of `train` in front of every question, as earlier turns of the conversation;
    /// the most similar one comes last, next to the question.
    ///
    /// # Errors
    /// When `shots` is 0, a prompt cannot be made, or an answer is empty.
    pub fn new(
        model: Box<dyn Model + 'a>,
        shots: Shots,
        task: &Task,
        train: &Rows<Train>,
        embedder: SharedEmbedder,
    ) -> Result<Self> {
        if shots.count == 0 {
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
        let encoder = embedder::identity(&embedder).fingerprint;
        let mut content = serde_json::json!([EDITION, shots.count, encoder, examples]);
        if let (Some(tokens), Some(content)) = (shots.within, content.as_array_mut()) {
            content.push(tokens.into());
        }
        Ok(FewShot { model, shots, embedder, examples, vectors, fingerprint: json::fingerprint(&content) })
    }

    /// The request with its examples. A row whose question is the very same is never one of them: with the training rows
    /// measured, it would give the answer away.
    fn with_examples(&self, request: &Request, similar: &[usize]) -> Request {
        let question = last_user(&request.messages);
        let mut shown: Vec<_> =
            similar.iter().map(|&row| &self.examples[row]).filter(|(other, _)| other != question).collect();
        shown.truncate(self.shots.count);
        let mut asked = arranged(request, &shown);
        if let Some(most) = self.shots.within {
            // The least similar goes first.
            while !shown.is_empty() && self.model.prompt_len(&asked.messages).is_some_and(|n| n > most) {
                shown.pop();
                asked = arranged(request, &shown);
            }
        }
        asked
    }
}

/// The request with these examples, of which the first comes last.
fn arranged(request: &Request, shown: &[&(String, String)]) -> Request {
    let turns = shown.iter().rev().flat_map(|(question, answer)| {
        [(Role::User, question), (Role::Assistant, answer)]
            .map(|(role, content)| Message { role, content: content.clone() })
    });
    let place = request.messages.iter().rposition(|m| m.role == Role::User).unwrap_or(0);
    let (before, after) = request.messages.split_at(place);
    let messages = before.iter().cloned().chain(turns).chain(after.iter().cloned()).collect();
    Request { messages, max_new_tokens: request.max_new_tokens }
}

impl Model for FewShot<'_> {
    fn identity(&self) -> Identity {
        let Identity { name, fingerprint } = self.model.identity();
        Identity {
            name: format!("{name}?shots={}", self.shots),
            fingerprint: format!("{fingerprint} {}", self.fingerprint),
        }
    }

    fn how(&self) -> Option<String> {
        let bound = self.shots.within.map_or_else(String::new, |tokens| {
            format!(", fewer where a prompt would exceed {tokens} tokens")
        });
        let own = self.model.how().map_or_else(String::new, |how| format!("; {how}"));
        Some(format!(
            "with the {} most similar training rows before each question{bound}{own}",
            self.shots.count
        ))
    }

    fn prompt_len(&self, messages: &[Message]) -> Option<usize> {
        self.model.prompt_len(messages)
    }

    fn generate(
        &mut self,
        requests: &[Request],
        on_output: &mut dyn FnMut(usize, Result<Output>) -> ControlFlow<()>,
    ) -> Result<()> {
        let questions: Vec<&str> = requests.iter().map(|request| last_user(&request.messages)).collect();
        let vectors = embedder::embed(&self.embedder, &questions)?;
        // Some more than needed, because the question itself may be among them.
        let similar = embedder::most_similar(&self.vectors, &vectors, self.shots.count + 2);
        let requests: Vec<Request> =
            requests.iter().zip(&similar).map(|(request, rows)| self.with_examples(request, rows)).collect();
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

        /// A token a character.
        fn prompt_len(&self, messages: &[Message]) -> Option<usize> {
            Some(messages.iter().map(|m| m.content.len()).sum())
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

    fn ask(task: &Task, train: &Rows<Train>, shots: &str, question: &str) -> (String, Identity) {
        let shots: Shots = shots.parse().unwrap();
        let embedder: SharedEmbedder = Arc::new(Mutex::new(Letters));
        let mut model = FewShot::new(Box::new(Echo), shots, task, train, embedder).unwrap();
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
        let (text, identity) = ask(&task, &train, "2", "aab");
        assert_eq!(text, "System:S|User:abb|Assistant:2|User:aaa|Assistant:1|User:aab");
        assert_eq!(identity.name, "echo?shots=2");
        let (text, other) = ask(&task, &train, "1", "aaa");
        assert_eq!(text, "System:S|User:abb|Assistant:2|User:aaa", "never the row itself");
        assert_ne!(identity.fingerprint, other.fingerprint);
        let (text, _) = ask(&task, &train, "9", "c");
        assert_eq!(text.matches("Assistant").count(), 4);
    }

    #[test]
    fn a_prompt_that_is_too_long_loses_its_least_similar_examples() {
        let folder = tempfile::tempdir().unwrap();
        let (task, train) = setup(folder.path());
        // System and question take four characters, each example four more.
        let (text, identity) = ask(&task, &train, "3,9", "aab");
        assert_eq!(text, "System:S|User:aaa|Assistant:1|User:aab");
        assert_eq!(identity.name, "echo?shots=3,9");
        assert_eq!(ask(&task, &train, "3,2", "aab").0, "System:S|User:aab", "none fits");
        assert_eq!(ask(&task, &train, "3,12", "aab").0.matches("Assistant").count(), 2);
        assert!("0".parse::<Shots>().is_err() && "2,x".parse::<Shots>().is_err());
    }

    #[test]
    fn no_examples_are_no_candidate() {
        let folder = tempfile::tempdir().unwrap();
        let (task, train) = setup(folder.path());
        let embedder: SharedEmbedder = Arc::new(Mutex::new(Letters));
        assert!(
            FewShot::new(Box::new(Echo), Shots { count: 0, within: None }, &task, &train, embedder).is_err()
        );
    }
}
