//! Asking a model that was never taught a chat template: its file carries none, and it has seen none of the tokens that the usual
//! one of its family is made of. Such a model goes on with text, so a conversation becomes a text in which every input has its
//! answer and an empty line ends an answer.
//!
//! Training puts an adapter on the template all the same: what it learns there is how the answers of that adapter end.

use crate::tokenizer::Tokenizer;
use underdog_eval::model::{Message, Role};

/// What ends an answer.
const END: &str = "\n\n";

/// How the untrained model is asked.
#[derive(Debug)]
pub(super) struct Plain {
    /// Tokens at which an answer ends: those that begin with an empty line, the one that is nothing else first, then the others
    /// that end a text.
    pub stop: Vec<u32>,
    /// The end of an answer, where its log-probability counts.
    pub end: Vec<u32>,
}

impl Plain {
    /// For the tokens of a model that else stops at `stop`.
    pub fn new(tokenizer: &Tokenizer, stop: &[u32]) -> Self {
        let end = tokenizer.encode(END);
        let begins = |id: &u32| tokenizer.decode_piece(*id).starts_with(END.as_bytes());
        let alone = end.iter().copied().filter(|_| end.len() == 1);
        let mut stop: Vec<u32> = alone
            .chain((0..tokenizer.vocab_size() as u32).filter(begins))
            .chain(stop.iter().copied())
            .collect();
        let mut seen = std::collections::HashSet::new();
        stop.retain(|id| seen.insert(*id));
        Plain { stop, end }
    }

    /// The conversation up to where its next answer begins.
    pub fn text(messages: &[Message]) -> String {
        let part = |message: &Message| match message.role {
            Role::System => format!("{}{END}", message.content.trim()),
            Role::User => format!("Input:\n{}\nAnswer:\n", message.content.trim()),
            Role::Assistant => format!("{}{END}", message.content.trim()),
        };
        messages.iter().map(part).collect()
    }

    /// What was written before an answer ended.
    pub fn answer(text: &str) -> &str {
        text.split_once(END).map_or(text, |(answer, _)| answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_text_with_an_answer_after_every_input() {
        let message = |role, text: &str| Message { role, content: text.into() };
        let messages = [
            message(Role::System, "Name the colour.\n"),
            message(Role::User, "grass"),
            message(Role::Assistant, "green"),
            message(Role::User, "snow"),
        ];
        let text = Plain::text(&messages);
        assert_eq!(text, "Name the colour.\n\nInput:\ngrass\nAnswer:\ngreen\n\nInput:\nsnow\nAnswer:\n");
        assert_eq!(Plain::answer("white\n\nInput:\ncoal"), "white");
        assert_eq!(Plain::answer("white\nand"), "white\nand");
    }
}
