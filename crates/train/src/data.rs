//! Rows to token sequences: the prompt as evaluation builds it, then the completion, which alone carries loss unless the recipe
//! asks for the earlier answers of the conversation too, or gives the prompt's own text a weight.

use sha2::{Digest, Sha256};
use std::ops::Range;
use underdog_eval::model::{Message, Role};
use underdog_eval::{Error, Kind, Result};
use underdog_model::language_model::LanguageModel;
use underdog_model::tree::{Sequence, SequenceTarget};
use underdog_tensor::dropout::mix;

/// A training row as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The sample's id.
    pub id: String,
    /// The conversation up to the answer.
    pub messages: Vec<Message>,
    /// The answer to learn.
    pub completion: String,
}

/// A training row as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The sample's id.
    pub id: String,
    /// Prompt and completion, with targets sorted by position: one for every token of an answer, and for those of the prompt
    /// where it carries loss.
    pub sequence: Sequence,
    /// Tokens before the completion.
    prompt_len: usize,
    /// Tokens of the answers before the completion that carry loss as it does.
    earlier: Vec<Range<usize>>,
}

impl Example {
    /// From tokens: every token of `completion` is predicted by the token before it.
    ///
    /// # Panics
    /// When `prompt` is empty.
    pub fn new(id: &str, prompt: Vec<u32>, completion: &[u32]) -> Self {
        assert!(!prompt.is_empty(), "a prompt has at least one token");
        let start = prompt.len();
        let mut tokens = prompt;
        tokens.extend_from_slice(completion);
        let target = |i: usize| SequenceTarget { position: start + i - 1, token: completion[i] };
        let targets = (0..completion.len()).map(target).collect();
        Example {
            id: id.into(),
            sequence: Sequence { tokens, targets },
            prompt_len: start,
            earlier: Vec::new(),
        }
    }

    /// Makes targets of earlier answers too: `earlier` are their tokens, sorted, within the prompt and past its first token.
    fn learn_earlier(&mut self, earlier: Vec<Range<usize>>) {
        let tokens = &self.sequence.tokens;
        let target = |i: usize| SequenceTarget { position: i - 1, token: tokens[i] };
        let mut targets: Vec<SequenceTarget> = earlier.iter().cloned().flatten().map(target).collect();
        targets.append(&mut self.sequence.targets);
        self.sequence.targets = targets;
        self.earlier = earlier;
    }

    /// Tokens before the completion.
    pub fn prompt_len(&self) -> usize {
        self.prompt_len
    }

    /// Tokens of all answers that carry loss, the completion among them.
    pub fn answer_len(&self) -> usize {
        let earlier: usize = self.earlier.iter().map(Range::len).sum();
        earlier + self.sequence.tokens.len() - self.prompt_len
    }

    /// Whether token `i` is one of an answer that carries loss.
    pub fn in_answer(&self, i: usize) -> bool {
        i >= self.prompt_len || self.earlier.iter().any(|answer| answer.contains(&i))
    }

    /// Whether target `index` is a token of an answer, and not of the prompt's own text.
    pub fn is_answer(&self, index: usize) -> bool {
        self.in_answer(self.sequence.targets[index].position + 1)
    }
}

/// Makes targets of the prompt tokens too, but for what all rows begin with: instructions and template teach nothing new.
pub fn add_prompt_targets(examples: &mut [Example]) {
    let Some(first) = examples.first().map(|e| e.sequence.tokens.clone()) else { return };
    let common = |e: &Example| e.sequence.tokens.iter().zip(&first).take_while(|(a, b)| a == b).count();
    let shared = examples.iter().map(common).min().unwrap_or(0).max(1);
    for example in examples {
        let tokens = &example.sequence.tokens;
        let target = |i: usize| SequenceTarget { position: i - 1, token: tokens[i] };
        let learned = |i: &usize| *i >= shared || example.in_answer(*i);
        example.sequence.targets = (1..tokens.len()).filter(learned).map(target).collect();
    }
}

/// Which answers of a conversation carry loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// The completion.
    Last,
    /// Every turn of the assistant.
    All,
}

/// Tokenises rows for a model.
///
/// # Errors
/// An empty list, an earlier answer that the template does not show word for word, a prompt the template refuses, or rows that do not fit the context: their number and the first one's id.
pub fn tokenize(model: &LanguageModel, rows: &[Row], learned: Learned) -> Result<Vec<Example>> {
    if rows.is_empty() {
        return Err(Error::new(Kind::Data, "there are no training rows").expected("at least one row"));
    }
    let context = model.transformer.config().context;
    let mut examples = Vec::with_capacity(rows.len());
    let mut long = Vec::new();
    for row in rows {
        let prompt = model.prompt_tokens(&row.messages)?;
        if prompt.is_empty() {
            return Err(Error::new(Kind::Data, "the prompt of a training row is empty")
                .at(format!("sample `{}`", row.id)));
        }
        let mut example = Example::new(&row.id, prompt, &model.completion_tokens(&row.completion));
        if learned == Learned::All {
            example.learn_earlier(earlier_answers(model, row, &example.sequence.tokens)?);
        }
        if example.sequence.tokens.len() > context {
            long.push((row.id.clone(), example.sequence.tokens.len()));
        }
        examples.push(example);
    }
    match long.first() {
        None => Ok(examples),
        Some((id, tokens)) => Err(Error::new(Kind::Data, "training rows do not fit the model's context")
            .expected(format!("at most {context} tokens"))
            .found(match long.len() {
                1 => format!("1 longer row, `{id}` with {tokens} tokens"),
                n => format!("{n} longer rows, the first `{id}` with {tokens} tokens"),
            })
            .hint("shorten or remove these rows, or take a base with a longer context")),
    }
}

/// Where in `tokens` the answers of the conversation before the completion stand, each with the end of its turn.
fn earlier_answers(model: &LanguageModel, row: &Row, tokens: &[u32]) -> Result<Vec<Range<usize>>> {
    let turns = row.messages.iter().enumerate().filter(|(_, message)| message.role == Role::Assistant);
    turns
        .map(|(turn, message)| {
            let before = model.prompt_tokens(&row.messages[..turn])?;
            let answer = model.completion_tokens(&message.content);
            let range = before.len()..before.len() + answer.len();
            let found = tokens.starts_with(&before) && tokens.get(range.clone()) == Some(&answer[..]);
            match found && range.start > 0 {
                true => Ok(range),
                false => Err(Error::new(Kind::Data, "an earlier answer cannot be learned")
                    .expected("the chat template to show it as the model would write it")
                    .found(format!("another text for `{}`", message.content))
                    .at(format!("sample `{}`", row.id))
                    .hint("set answers=last")),
            }
        })
        .collect()
}

/// Hash of all token sequences and targets, 16 hexadecimal digits: a checkpoint goes with these rows only.
pub fn fingerprint(examples: &[Example]) -> String {
    let mut hash = Sha256::new();
    for example in examples {
        hash.update((example.sequence.tokens.len() as u64).to_le_bytes());
        hash.update((example.prompt_len() as u64).to_le_bytes());
        for answer in &example.earlier {
            hash.update((answer.start as u64).to_le_bytes());
            hash.update((answer.end as u64).to_le_bytes());
        }
        example.sequence.tokens.iter().for_each(|t| hash.update(t.to_le_bytes()));
    }
    hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// The rows of step `step` (from 0): each epoch is a new seeded shuffle of all rows, and epochs follow each other without a
/// gap, so every step has `batch` rows. A function of its arguments alone, so a resumed run sees the same rows.
pub fn batch_rows(rows: usize, batch: usize, seed: u64, step: usize) -> Vec<usize> {
    let mut picked = Vec::with_capacity(batch);
    let mut order: Option<(usize, Vec<usize>)> = None;
    for position in step * batch..(step + 1) * batch {
        let epoch = position / rows;
        if order.as_ref().is_none_or(|(of, _)| *of != epoch) {
            order = Some((epoch, shuffled(rows, mix(seed ^ mix(epoch as u64)))));
        }
        if let Some((_, order)) = &order {
            picked.push(order[position % rows]);
        }
    }
    picked
}

/// `0..n` in a seeded random order (Fisher and Yates).
fn shuffled(n: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        let j = (mix(seed.wrapping_add(i as u64)) as u128 * (i as u128 + 1)) >> 64;
        order.swap(i, j as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_completion_tokens_carry_loss() {
        let example = Example::new("a", vec![5, 6, 7], &[8, 9]);
        assert_eq!(example.sequence.tokens, [5, 6, 7, 8, 9]);
        let targets: Vec<_> = example.sequence.targets.iter().map(|t| (t.position, t.token)).collect();
        assert_eq!(targets, [(2, 8), (3, 9)]);
        assert_eq!(example.prompt_len(), 3);
    }

    #[test]
    fn a_prompt_carries_loss_where_rows_differ() {
        let mut examples =
            vec![Example::new("a", vec![5, 6, 7], &[8, 9]), Example::new("b", vec![5, 4, 3, 2], &[8])];
        add_prompt_targets(&mut examples);
        let targets = |e: &Example| -> Vec<(usize, u32, bool)> {
            let targets = e.sequence.targets.iter().enumerate();
            targets.map(|(i, t)| (t.position, t.token, e.is_answer(i))).collect()
        };
        assert_eq!(targets(&examples[0]), [(0, 6, false), (1, 7, false), (2, 8, true), (3, 9, true)]);
        assert_eq!(targets(&examples[1]), [(0, 4, false), (1, 3, false), (2, 2, false), (3, 8, true)]);
        assert_eq!((examples[1].prompt_len(), examples[1].answer_len()), (4, 1));
    }

    #[test]
    fn earlier_answers_carry_loss_as_the_completion_does() {
        let mut examples =
            vec![Example::new("a", vec![5, 6, 7, 8], &[9]), Example::new("b", vec![5, 1], &[2])];
        examples[0].learn_earlier(vec![1..2, 2..3]);
        let targets = |e: &Example| -> Vec<(usize, u32, bool)> {
            let targets = e.sequence.targets.iter().enumerate();
            targets.map(|(i, t)| (t.position, t.token, e.is_answer(i))).collect()
        };
        assert_eq!(targets(&examples[0]), [(0, 6, true), (1, 7, true), (3, 9, true)]);
        assert_eq!((examples[0].answer_len(), examples[1].answer_len()), (3, 1));
        let plain = Example::new("a", vec![5, 6, 7, 8], &[9]);
        assert_ne!(fingerprint(&examples[..1]), fingerprint(&[plain]));
        add_prompt_targets(&mut examples);
        assert_eq!(targets(&examples[0]), [(0, 6, true), (1, 7, true), (2, 8, false), (3, 9, true)]);
    }

    #[test]
    fn every_epoch_sees_every_row_once_in_its_own_order() {
        let all: Vec<usize> = (0..10).flat_map(|step| batch_rows(10, 3, 7, step)).collect();
        assert_eq!(all.len(), 30);
        for epoch in all.chunks(10) {
            let mut sorted = epoch.to_vec();
            sorted.sort();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(all[..10], all[10..20]);
        assert_ne!(batch_rows(10, 10, 7, 0), batch_rows(10, 10, 8, 0));
    }
}
