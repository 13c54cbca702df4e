//! A language model that answers with one of some labels: requests to prompts, batches and answers. How labels are scored
//! is `choose`'s.

use super::LanguageModel;
use crate::choose::Choice;
use crate::generate::Prompt;
use std::ops::ControlFlow;
use std::time::Instant;
use underdog_eval::model::{Finish, Output, Request};
use underdog_eval::{Error, Kind, Result};

impl LanguageModel {
    /// Answers each request with a label.
    pub(super) fn choose(
        &self,
        choice: &Choice,
        requests: &[Request],
        on_output: &mut dyn FnMut(usize, Result<Output>) -> ControlFlow<()>,
    ) -> Result<()> {
        let (mut prompts, mut origin) = (Vec::new(), Vec::new());
        for (i, request) in requests.iter().enumerate() {
            match self.choice_prompt(choice, request) {
                Ok(tokens) => {
                    prompts.push(tokens);
                    origin.push(i);
                }
                Err(error) => {
                    if on_output(i, Err(error)).is_break() {
                        return Ok(());
                    }
                }
            }
        }
        let mut at = 0;
        while at < prompts.len() {
            let started = Instant::now();
            let batch = &prompts[at..at + choice.fit(&prompts[at..])];
            let scores = choice.scores(&self.transformer, self.lora.as_ref(), batch);
            let seconds = started.elapsed().as_secs_f64() / batch.len() as f64;
            for (i, scores) in scores.iter().enumerate() {
                let known = if i == 0 { 0 } else { shared(&batch[i - 1], &batch[i]) };
                let output = choice.best(scores).map(|label| Output {
                    text: label.to_owned(),
                    finish: Finish::Stop,
                    prompt_tokens: batch[i].len(),
                    computed_tokens: batch[i].len() - known,
                    new_tokens: 0,
                    seconds,
                });
                let output = output
                    .ok_or_else(|| Error::new(Kind::Model, "a log-probability of a label is no number"));
                if on_output(origin[at + i], output).is_break() {
                    return Ok(());
                }
            }
            at += batch.len();
        }
        Ok(())
    }

    /// The tokens of a request, when they and any label fit the context.
    fn choice_prompt(&self, choice: &Choice, request: &Request) -> Result<Vec<u32>> {
        let Prompt { tokens, .. } = self.prompt(request)?;
        let context = self.transformer.config().context;
        if tokens.len() + choice.longest() > context {
            return Err(Error::new(
                Kind::Data,
                "the prompt and its longest label do not fit the model's context",
            )
            .expected(format!("at most {context} tokens"))
            .found(format!("{} tokens", tokens.len() + choice.longest())));
        }
        Ok(tokens)
    }
}

/// How many tokens two prompts have in common from the first on.
fn shared(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
