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

/// How many examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shots {
    /// At most so many; 0 where somebody says that none are to be shown.
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

    /// `4`, or `4,2000` for prompts of at most 2,000 tokens; `0` for none, also where an adapter was trained with some.
    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| text.parse::<usize>().ok().filter(|number| *number > 0);
        let parsed = match text.split_once(',') {
            None => text.parse().ok().map(|count| Shots { count, within: None }),
            Some((count, within)) => {
                number(count).zip(number(within)).map(|(count, w)| Shots { count, within: Some(w) })
            }
        };
        parsed.ok_or_else(|| {
            Error::new(Kind::Usage, "examples in the prompt")
                .expected("a number, or two of 1 or more with a comma: examples, and tokens of a prompt")
                .found(format!("`{text}`"))
        })
    }
}

/// Training rows to show before a question: the most similar ones, as earlier turns of the conversation.
pub struct Similar {
    shots: Shots,
    embedder: SharedEmbedder,
    /// Question and answer of each training row.
    examples: Vec<(String, String)>,
    vectors: Vec<Vec<f32>>,
    fingerprint: String,
}

impl Similar {
    /// The `shots` most similar of `train`.
    ///
    /// # Errors
    /// When `shots` is 0, a prompt cannot be made, or an answer is empty.
    pub fn new(shots: Shots, task: &Task, train: &Rows<Train>, embedder: SharedEmbedder) -> Result<Self> {
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
        let fingerprint = json::fingerprint(&content);
        Ok(Similar { shots, embedder, examples, vectors, fingerprint })
    }

    /// Changes when the same question may get other examples.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Each conversation with its examples before the last question, the most similar one next to it. A row whose question
    /// is the very same is never one of them: a training row would give its own answer away. `prompt_len` counts the tokens of
    /// a conversation, where somebody can.
    ///
    /// # Errors
    /// When a question cannot be embedded.
    pub fn show(
        &self,
        conversations: &[&[Message]],
        prompt_len: &dyn Fn(&[Message]) -> Option<usize>,
    ) -> Result<Vec<Vec<Message>>> {
        let questions: Vec<&str> = conversations.iter().map(|messages| last_user(messages)).collect();
        let vectors = embedder::embed(&self.embedder, &questions)?;
        // Some more than needed, because the question itself may be among them.
        let similar = embedder::most_similar(&self.vectors, &vectors, self.shots.count.saturating_add(2));
        Ok(conversations
            .iter()
            .zip(&similar)
            .map(|(messages, rows)| self.with_examples(messages, rows, prompt_len))
            .collect())
    }

    fn with_examples(
        &self,
        messages: &[Message],
        similar: &[usize],
        prompt_len: &dyn Fn(&[Message]) -> Option<usize>,
    ) -> Vec<Message> {
        let question = last_user(messages);
        let mut shown: Vec<_> =
            similar.iter().map(|&row| &self.examples[row]).filter(|(other, _)| other != question).collect();
        shown.truncate(self.shots.count);
        let mut asked = arranged(messages, &shown);
        if let Some(most) = self.shots.within {
            // The least similar goes first.
            while !shown.is_empty() && prompt_len(&asked).is_some_and(|n| n > most) {
                shown.pop();
                asked = arranged(messages, &shown);
            }
        }
        asked
    }
}

/// Whether the examples that `asked` has and the conversation `alone` has not do not all have one answer. Earlier turns of the
/// conversation itself are no examples.
pub fn disagree(asked: &[Message], alone: &[Message]) -> bool {
    let examples = asked.iter().skip(place(alone)).take(asked.len().saturating_sub(alone.len()));
    let mut answers = examples.filter(|m| m.role == Role::Assistant).map(|m| &m.content);
    let first = answers.next();
    answers.any(|answer| Some(answer) != first)
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

/// The conversation with these examples, of which the first comes last.
fn arranged(messages: &[Message], shown: &[&(String, String)]) -> Vec<Message> {
    let turns = shown.iter().rev().flat_map(|(question, answer)| {
        [(Role::User, question), (Role::Assistant, answer)]
            .map(|(role, content)| Message { role, content: content.clone() })
    });
    let (before, after) = messages.split_at(place(messages));
    before.iter().cloned().chain(turns).chain(after.iter().cloned()).collect()
}

/// Where examples go: before the last question.
fn place(messages: &[Message]) -> usize {
    messages.iter().rposition(|m| m.role == Role::User).unwrap_or(0)
}

impl Model for FewShot<'_> {
    fn identity(&self) -> Identity {
        let Identity { name, fingerprint } = self.model.identity();
        Identity {
            name: format!("{name}?shots={}", self.similar.shots),
            fingerprint: format!("{fingerprint} {}", self.similar.fingerprint()),
        }
    }

    fn how(&self) -> Option<String> {
        let bound = self.similar.shots.within.map_or_else(String::new, |tokens| {
            format!(", fewer where a prompt would exceed {tokens} tokens")
        });
        let own = self.model.how().map_or_else(String::new, |how| format!("; {how}"));
        Some(format!(
            "with the {} most similar training rows before each question{bound}{own}",
            self.similar.shots.count
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
        let conversations: Vec<&[Message]> = requests.iter().map(|request| &request.messages[..]).collect();
        let shown = self.similar.show(&conversations, &|messages| self.model.prompt_len(messages))?;
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
    fn examples_disagree_where_they_have_two_answers() {
        let turn = |role, content: &str| Message { role, content: content.into() };
        let ended = |own: &[(&str, &str)]| {
            let turns = own.iter().flat_map(|(q, a)| [turn(Role::User, q), turn(Role::Assistant, a)]);
            let mut messages: Vec<Message> = [turn(Role::System, "S")].into_iter().chain(turns).collect();
            messages.push(turn(Role::User, "q"));
            messages
        };
        let answered = |alone: &[Message], answers: &[&str]| {
            let examples: Vec<_> = answers.iter().map(|a| ("e".to_owned(), (*a).to_owned())).collect();
            disagree(&arranged(alone, &examples.iter().collect::<Vec<_>>()), alone)
        };
        for own in [&[][..], &[("first", "2"), ("second", "3")]] {
            let alone = ended(own);
            assert!(!answered(&alone, &[]), "none");
            assert!(!answered(&alone, &["1", "1"]));
            assert!(answered(&alone, &["1", "2", "1"]));
        }
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
        assert_eq!("0".parse::<Shots>().unwrap(), Shots { count: 0, within: None });
        assert!(["0,5", "2,0", "2,x", "-1"].iter().all(|text| text.parse::<Shots>().is_err()));
    }

    #[test]
    fn no_examples_are_no_candidate() {
        let folder = tempfile::tempdir().unwrap();
        let (task, train) = setup(folder.path());
        let embedder: SharedEmbedder = Arc::new(Mutex::new(Letters));
        assert!(Similar::new(Shots { count: 0, within: None }, &task, &train, embedder).is_err());
    }
}
