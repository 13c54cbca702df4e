//! Choosing among labels by log-probability: after the prompt of a request, every label is scored as the answer that the
//! model would have to write, end of turn included, and the most probable one is the answer. Labels share the prompt and
//! the tokens they begin with, so all of them go through the transformer as one tree, with as many requests beside them as
//! fit a batch.
//!
//! Which labels a task has is the caller's to say.

use crate::linear::Use;
use crate::lora::Lora;
use crate::transformer::{Keep, StepOptions, Transformer, Workspace};
use crate::tree::{Forest, Sequence, SequenceTarget};
use sha2::{Digest, Sha256};
use underdog_eval::{Error, Kind, Result};

/// Tokens of a batch, shared ones counted once at the most: memory stays flat, and products are large enough.
const BATCH_TOKENS: usize = 1536;

/// What a label's log-probability is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Its tokens: long labels are not punished for their length (`log-prob`).
    Tokens,
    /// Nothing: the probability of the whole text (`log-prob-sum`).
    One,
}

impl Length {
    /// Reads `log-prob` or `log-prob-sum`.
    ///
    /// # Errors
    /// Another name.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "log-prob" => Ok(Length::Tokens),
            "log-prob-sum" => Ok(Length::One),
            other => Err(Error::new(Kind::Usage, "--choose")
                .expected("log-prob or log-prob-sum")
                .found(format!("`{other}`"))),
        }
    }

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Length::Tokens => "log-prob",
            Length::One => "log-prob-sum",
        }
    }
}

/// Labels that are ready for a model.
#[derive(Clone, Debug)]
pub struct Choice {
    labels: Vec<String>,
    tokens: Vec<Vec<u32>>,
    length: Length,
}

impl Choice {
    /// `tokens` are what the model would write for each of the `labels`, with the end of its turn.
    ///
    /// # Errors
    /// Without two labels, or with one that has no tokens.
    pub fn new(labels: Vec<String>, tokens: Vec<Vec<u32>>, length: Length) -> Result<Self> {
        if labels.len() < 2 || labels.len() != tokens.len() || tokens.iter().any(Vec::is_empty) {
            return Err(Error::new(Kind::Usage, "the labels to choose among cannot be used")
                .expected("two or more, none of them empty")
                .found(labels.join(", ")));
        }
        Ok(Choice { labels, tokens, length })
    }

    /// The labels.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// How they are compared.
    pub fn length(&self) -> Length {
        self.length
    }

    /// The most tokens that a label adds to a prompt.
    pub fn longest(&self) -> usize {
        self.tokens.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// 16 hexadecimal digits that change with the labels.
    pub fn fingerprint(&self) -> String {
        let hash = Sha256::digest(serde_json::json!([1, self.labels]).to_string().as_bytes());
        hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// How many of the `prompts` from the first on go into one batch; at least one.
    pub fn fit(&self, prompts: &[Vec<u32>]) -> usize {
        let labels: usize = self.tokens.iter().map(Vec::len).sum();
        let mut tokens = 0;
        let fits = prompts.iter().take_while(|prompt| {
            tokens += prompt.len() + labels;
            tokens <= BATCH_TOKENS
        });
        fits.count().max(1)
    }

    /// The score of each label after each prompt: the sum of its tokens' log-probabilities, over their number where the
    /// length counts.
    ///
    /// # Panics
    /// When a prompt is empty.
    pub fn scores(&self, model: &Transformer, lora: Option<&Lora>, prompts: &[Vec<u32>]) -> Vec<Vec<f64>> {
        let sequence = |prompt: &Vec<u32>, label: &Vec<u32>| {
            let target =
                |(i, token): (usize, &u32)| SequenceTarget { position: prompt.len() - 1 + i, token: *token };
            // The last token predicts nothing any more.
            let tokens = prompt.iter().chain(&label[..label.len() - 1]).copied().collect();
            Sequence { tokens, targets: label.iter().enumerate().map(target).collect() }
        };
        let sequences: Vec<Sequence> = prompts
            .iter()
            .flat_map(|prompt| self.tokens.iter().map(|label| sequence(prompt, label)))
            .collect();
        let forest = Forest::merge(&sequences);
        let lora = lora.map(|lora| model.ready(lora, Use::Forward));
        let options = StepOptions { keep: Keep::WithoutMlp, dropout: None };
        let (scores, _) = model.forward(lora.as_ref(), &forest, options, &mut Workspace::default());
        let of_sequence = |index: usize| {
            let places = forest.places(index);
            let sum: f64 = places.iter().map(|&place| f64::from(scores[place].log_prob)).sum();
            if self.length == Length::Tokens { sum / places.len() as f64 } else { sum }
        };
        let each = self.tokens.len();
        (0..prompts.len()).map(|p| (0..each).map(|label| of_sequence(p * each + label)).collect()).collect()
    }

    /// The label with the highest score, the first of equals; `None` where one is no number.
    pub fn best(&self, scores: &[f64]) -> Option<&str> {
        most_likely(scores).and_then(|place| self.labels.get(place)).map(String::as_str)
    }
}

/// The place of the highest log-probability, the first of equals; `None` where one of them is NaN or there are none.
fn most_likely(log_probs: &[f64]) -> Option<usize> {
    if log_probs.iter().any(|value| value.is_nan()) {
        return None;
    }
    (0..log_probs.len()).reduce(|best, next| if log_probs[next] > log_probs[best] { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_likeliest_is_taken_and_what_is_no_number_chooses_nothing() {
        assert_eq!(most_likely(&[-3.0, -1.0, -1.0, f64::NEG_INFINITY]), Some(1));
        assert_eq!((most_likely(&[]), most_likely(&[-1.0, f64::NAN])), (None, None));
    }
}
