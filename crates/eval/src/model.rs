//! What a candidate is to the harness: something that answers chat requests. The engine and the remote
//! providers implement [`Model`]; this crate knows neither.

use crate::Result;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// Who speaks in a [`Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that hold for the whole conversation.
    System,
    /// The person or program that asks.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// Plain text, before any chat template.
    pub content: String,
}

/// One prompt to be answered greedily.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The conversation so far; the answer is the next assistant turn.
    pub messages: Vec<Message>,
    /// Upper bound of generated tokens, the end-of-turn token not counted.
    pub max_new_tokens: usize,
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model ended its turn.
    Stop,
    /// `max_new_tokens` or the context was used up.
    Length,
}

/// The answer to one [`Request`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The generated text without the end-of-turn token.
    pub text: String,
    /// Why generation ended.
    pub finish: Finish,
    /// Tokens of the rendered prompt.
    pub prompt_tokens: usize,
    /// Prompt tokens that were computed for this request; tokens shared with an earlier one are not counted again.
    pub computed_tokens: usize,
    /// Generated tokens, the end-of-turn token included where there was one.
    pub new_tokens: usize,
    /// Wall seconds from when the request was taken up to when it was finished.
    pub seconds: f64,
}

/// Who a candidate is, for records and reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The model reference as typed, e.g. `smollm2-135m-instruct+runs/1/adapter`.
    pub name: String,
    /// Hash of the weights (and of the adapter), so that a record names exactly one candidate.
    pub fingerprint: String,
}

/// A candidate.
pub trait Model {
    /// Who this is.
    fn identity(&self) -> Identity;

    /// How answers are made where that is not plain greedy decoding, in words for the record.
    fn how(&self) -> Option<String> {
        None
    }

    /// Tokens of a conversation as this candidate would be asked it, the opening of its own turn included; `None` where it
    /// does not count any.
    fn prompt_len(&self, messages: &[Message]) -> Option<usize> {
        let _ = messages;
        None
    }

    /// Answers `requests` in any order. `on_output` gets the index of the request and its answer, or the reason why
    /// this one request cannot be answered (for example a prompt longer than the context), as soon as it is known;
    /// when it returns `Break`, generation ends early with `Ok`.
    ///
    /// # Errors
    /// When the candidate as a whole cannot go on.
    fn generate(
        &mut self,
        requests: &[Request],
        on_output: &mut dyn FnMut(usize, Result<Output>) -> ControlFlow<()>,
    ) -> Result<()>;
}

/// A candidate that is lent, so that another one can be built on it and given back.
impl<M: Model + ?Sized> Model for &mut M {
    fn identity(&self) -> Identity {
        (**self).identity()
    }

    fn how(&self) -> Option<String> {
        (**self).how()
    }

    fn prompt_len(&self, messages: &[Message]) -> Option<usize> {
        (**self).prompt_len(messages)
    }

    fn generate(
        &mut self,
        requests: &[Request],
        on_output: &mut dyn FnMut(usize, Result<Output>) -> ControlFlow<()>,
    ) -> Result<()> {
        (**self).generate(requests, on_output)
    }
}
