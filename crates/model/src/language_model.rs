//! A local candidate: weights, tokenizer, chat template and perhaps an adapter, behind the harness's [`Model`] trait.
//!
//! There is one way from messages to tokens, [`LanguageModel::prompt_tokens`]; training, evaluation and chat all take it.

mod choosing;

use crate::adapter;
use crate::catalogue::Cache;
use crate::chat::ChatTemplate;
use crate::checkpoint::Checkpoint;
use crate::choose::{Choice, Length};
use crate::constrain::{Constraint, Grammar};
use crate::generate::{Choose, Event, Limits, Prompt, Settings, generate_with};
use crate::linear::Precision;
use crate::lora::Lora;
use crate::reference::Reference;
use crate::sampling::Sampling;
use crate::tokenizer::Tokenizer;
use crate::transformer::Transformer;
use std::ops::ControlFlow;
use std::path::Path;
use underdog_eval::model::{Finish, Identity, Message, Model, Output, Request};
use underdog_eval::{Error, Kind, Result};
use underdog_tensor::cached::CacheFormat;

/// How answers are generated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Decoding {
    /// How much is generated at once.
    pub limits: Limits,
    /// The number format of keys and values; `None` for the one that goes with the weights.
    pub cache: Option<CacheFormat>,
    /// Tokens guessed ahead from the text, at most; in f32 answers stay the same, else up to tokens that are nearly even.
    pub lookup: usize,
    /// How tokens are drawn; `None` for the most probable one.
    pub sampling: Option<Sampling>,
}

/// A loaded model that can be asked and trained.
pub struct LanguageModel {
    /// The weights.
    pub transformer: Transformer,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// The adapter in use.
    pub lora: Option<Lora>,
    /// How answers are generated.
    pub decoding: Decoding,
    precision: Precision,
    template: ChatTemplate,
    stop: Vec<u32>,
    base: String,
    adapter_path: Option<String>,
    base_fingerprint: String,
    shots: usize,
    constraint: Option<Constraint>,
    choice: Option<Choice>,
}

impl LanguageModel {
    /// Loads a reference.
    ///
    /// # Errors
    /// Whatever is wrong with one of its files.
    pub fn load(reference: &Reference, cache: &Cache, precision: Precision) -> Result<Self> {
        let checkpoint = Checkpoint::open(&reference.locate(cache)?)?;
        let (tokenizer, template) = match checkpoint.gguf() {
            Some(gguf) => (Tokenizer::from_gguf(gguf)?, ChatTemplate::from_gguf(gguf, None)?),
            None => (
                Tokenizer::from_directory(checkpoint.path())?,
                ChatTemplate::from_directory(checkpoint.path())?,
            ),
        };
        let base_fingerprint = checkpoint.fingerprint();
        let (lora, origin) = match &reference.adapter {
            Some(directory) => (
                Some(adapter::read(directory, checkpoint.config(), &base_fingerprint)?),
                adapter::origin(directory)?,
            ),
            None => (None, None),
        };
        let vocab = checkpoint.config().vocab;
        if tokenizer.vocab_size() > vocab {
            return Err(Error::new(Kind::Model, "the tokenizer has more tokens than the model")
                .expected(format!("at most {vocab}"))
                .found(tokenizer.vocab_size().to_string())
                .at(checkpoint.path().display().to_string()));
        }
        let [end] = tokenizer.encode(template.end_of_turn())[..] else {
            return Err(Error::new(Kind::Model, "the chat template does not end a turn with one token")
                .expected("one special token, at which generation stops")
                .found(format!("`{}`", template.end_of_turn()))
                .at(checkpoint.path().display().to_string()));
        };
        let mut stop: Vec<u32> = [end].into_iter().chain(tokenizer.eos()).collect();
        stop.dedup();
        Ok(LanguageModel {
            transformer: Transformer::load(&checkpoint, precision)?,
            precision,
            tokenizer,
            lora,
            decoding: Decoding::default(),
            template,
            stop,
            base: reference.base.clone(),
            adapter_path: reference.adapter.as_ref().map(|p| p.display().to_string()),
            base_fingerprint,
            shots: origin.map_or(0, |origin| origin.shots),
            constraint: None,
            choice: None,
        })
    }

    /// Similar training rows that stood before every question when the adapter was trained; 0 without an adapter.
    pub fn shots(&self) -> usize {
        self.shots
    }

    /// From now on gives only answers that fit `grammar`; `name` is what records call that.
    ///
    /// # Errors
    /// When the grammar cannot be used.
    pub fn constrain(&mut self, grammar: &Grammar, name: &str) -> Result<()> {
        self.constraint = Some(Constraint::new(grammar, name, &self.tokenizer, &self.stop)?);
        Ok(())
    }

    /// From now on answers with the most probable of the `labels`.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn choose_among(&mut self, labels: &[String], length: Length) -> Result<()> {
        let tokens = labels.iter().map(|label| self.completion_tokens(label)).collect();
        self.choice = Some(Choice::new(labels.to_vec(), tokens, length)?);
        Ok(())
    }

    /// From now on answers freely again.
    pub fn free(&mut self) {
        self.constraint = None;
        self.choice = None;
    }

    /// Chooses the tokens of an answer, where they are constrained or drawn.
    fn chooser(&self, prompt: &Prompt) -> Option<Box<dyn Choose>> {
        let sampler = self.decoding.sampling.map(|sampling| sampling.start(&prompt.tokens));
        match (&self.constraint, sampler) {
            (None, None) => None,
            (None, Some(sampler)) => Some(Box::new(sampler)),
            (Some(constraint), None) => Some(Box::new(constraint.start())),
            (Some(constraint), Some(sampler)) => Some(Box::new(constraint.start().sampled(sampler))),
        }
    }

    fn settings(&self) -> Settings<'_> {
        let Decoding { limits, cache, lookup, .. } = self.decoding;
        Settings { stop: &self.stop, limits, cache, lookup }
    }

    /// Takes on an adapter that was just trained on this base and written to `path`.
    pub fn adopt(&mut self, lora: Lora, path: &Path) {
        self.lora = Some(lora);
        self.adapter_path = Some(path.display().to_string());
    }

    /// The reference of the base as typed.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The number format its weights are multiplied in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Fingerprint of the base weights.
    pub fn base_fingerprint(&self) -> &str {
        &self.base_fingerprint
    }

    /// The rendered conversation with the opening of the assistant's turn, as tokens; with the beginning-of-text token where
    /// the model wants one and the template did not write it.
    ///
    /// # Errors
    /// When the template refuses the conversation.
    pub fn prompt_tokens(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let mut tokens = self.tokenizer.encode(&self.template.render(messages, true)?);
        if let Some(bos) =
            self.tokenizer.bos().filter(|bos| self.tokenizer.adds_bos() && tokens.first() != Some(bos))
        {
            tokens.insert(0, bos);
        }
        Ok(tokens)
    }

    /// What the model is trained to write after a prompt: the completion and the end of the turn.
    pub fn completion_tokens(&self, completion: &str) -> Vec<u32> {
        let mut tokens = self.tokenizer.encode(completion);
        tokens.extend(self.tokenizer.encode(self.template.end_of_turn()));
        tokens
    }

    /// Tokens at which an answer ends.
    pub fn stop(&self) -> &[u32] {
        &self.stop
    }

    /// The prompt of a request, with its bound on new tokens cut to the context.
    ///
    /// # Errors
    /// A prompt that does not fit the context.
    pub fn prompt(&self, request: &Request) -> Result<Prompt> {
        let tokens = self.prompt_tokens(&request.messages)?;
        let context = self.transformer.config().context;
        if tokens.is_empty() || tokens.len() >= context {
            return Err(Error::new(Kind::Data, "the prompt does not fit the model's context")
                .expected(format!("1 to {} tokens", context - 1))
                .found(format!("{} tokens", tokens.len()))
                .hint("shorten the input, or take a model with a longer context"));
        }
        // The token that ends the turn is generated too.
        let max_new = request.max_new_tokens.saturating_add(1).min(context - tokens.len());
        Ok(Prompt { tokens, max_new })
    }

    /// Answers one conversation, handing out text as it comes.
    ///
    /// # Errors
    /// A prompt that does not fit.
    pub fn stream(
        &self,
        request: &Request,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Output> {
        let prompt = self.prompt(request)?;
        let mut ids: Vec<u32> = Vec::new();
        let mut shown = 0;
        let mut output = None;
        let prompts = [prompt];
        generate_with(
            &self.transformer,
            self.lora.as_ref(),
            &prompts,
            &self.settings(),
            &|prompt| self.chooser(prompt),
            &mut |event| {
                match event {
                    Event::Token(_, token) => {
                        ids.push(token);
                        // One token more than asked for is generated, in case it is the one that ends the turn.
                        if ids.len() > request.max_new_tokens {
                            return ControlFlow::Continue(());
                        }
                        let text = self.tokenizer.decode(&ids);
                        // A character whose bytes are not all there yet decodes to the replacement character: wait for the rest.
                        let new =
                            text.get(shown..).filter(|new| !new.is_empty() && !text.ends_with('\u{fffd}'));
                        let Some(new) = new else { return ControlFlow::Continue(()) };
                        shown = text.len();
                        on_text(new)
                    }
                    Event::Done(_, done) => {
                        let done = self.output(&prompts[0], done, request.max_new_tokens);
                        // What is still held back will not become whole any more.
                        let flow = done.text.get(shown..).filter(|rest| !rest.is_empty()).map(&mut *on_text);
                        output = Some(done);
                        flow.unwrap_or(ControlFlow::Continue(()))
                    }
                }
            },
        );
        output.ok_or_else(|| Error::new(Kind::Stopped, "the answer was stopped"))
    }

    fn output(&self, prompt: &Prompt, done: crate::generate::Continuation, max_new: usize) -> Output {
        let kept = &done.tokens[..done.tokens.len().min(max_new)];
        let stopped = done.finish == Finish::Stop;
        Output {
            text: self.tokenizer.decode(kept),
            finish: done.finish,
            prompt_tokens: prompt.tokens.len(),
            computed_tokens: done.computed,
            new_tokens: kept.len() + usize::from(stopped),
            seconds: done.seconds,
        }
    }
}

impl Model for LanguageModel {
    /// The fingerprint holds the number format too: a record of answers in bf16 does not go on in f32.
    fn identity(&self) -> Identity {
        let precision = self.precision.name();
        let mut identity = match &self.lora {
            None => Identity {
                name: self.base.clone(),
                fingerprint: format!("{} {precision}", self.base_fingerprint),
            },
            Some(lora) => Identity {
                name: format!("{}+{}", self.base, self.adapter_path.as_deref().unwrap_or("adapter")),
                fingerprint: format!("{}+{} {precision}", self.base_fingerprint, adapter::fingerprint(lora)),
            },
        };
        // What may change an answer: a cache of fewer bits, draws, and guesses where sums are rounded to few bits.
        let Decoding { cache, sampling, lookup, .. } = self.decoding;
        let cache = cache.filter(|&format| format != self.transformer.cache_format(None));
        let guessing = (lookup > 0 && self.precision != Precision::F32).then(|| format!("lookup={lookup}"));
        let cache = cache.map(|format| format!("kv={}", format.name()));
        for setting in cache.into_iter().chain(guessing).chain(sampling.map(|s| s.name())) {
            identity.name.push_str(&format!("?{setting}"));
            identity.fingerprint.push_str(&format!(" {setting}"));
        }
        if let Some(constraint) = &self.constraint {
            identity.name.push_str(&format!("?constrain={}", constraint.name()));
            identity.fingerprint.push_str(&format!(" {}", constraint.fingerprint()));
        }
        if let Some(choice) = &self.choice {
            identity.name.push_str(&format!("?choose={}", choice.length().name()));
            identity.fingerprint.push_str(&format!(" {}", choice.fingerprint()));
        }
        identity
    }

    fn how(&self) -> Option<String> {
        let drawn = self.decoding.sampling.map(|sampling| format!("drawn, {}", sampling.name()));
        let constrained = self.constraint.as_ref().map(|constraint| {
            let but = constraint.not_held().map(|what| format!(", but not to all of it ({what})"));
            format!(
                "{}, each token held to what the {} allow{}",
                drawn.as_deref().unwrap_or("greedy"),
                constraint.name(),
                but.unwrap_or_default()
            )
        });
        let chosen = self.choice.as_ref().map(|choice| {
            let over = if choice.length() == Length::Tokens { " over its tokens" } else { "" };
            format!(
                "the most probable of {} labels, by the log-probability{over}; nothing generated",
                choice.labels().len()
            )
        });
        chosen.or(constrained).or(drawn)
    }

    fn prompt_len(&self, messages: &[Message]) -> Option<usize> {
        self.prompt_tokens(messages).ok().map(|tokens| tokens.len())
    }

    fn generate(
        &mut self,
        requests: &[Request],
        on_output: &mut dyn FnMut(usize, Result<Output>) -> ControlFlow<()>,
    ) -> Result<()> {
        if let Some(choice) = &self.choice {
            return self.choose(choice, requests, on_output);
        }
        let (mut prompts, mut origin) = (Vec::new(), Vec::new());
        for (i, request) in requests.iter().enumerate() {
            match self.prompt(request) {
                Ok(prompt) => {
                    prompts.push(prompt);
                    origin.push(i);
                }
                Err(error) => {
                    if on_output(i, Err(error)).is_break() {
                        return Ok(());
                    }
                }
            }
        }
        generate_with(
            &self.transformer,
            self.lora.as_ref(),
            &prompts,
            &self.settings(),
            &|prompt| self.chooser(prompt),
            &mut |event| match event {
                Event::Token(..) => ControlFlow::Continue(()),
                Event::Done(i, done) => on_output(
                    origin[i],
                    Ok(self.output(&prompts[i], done, requests[origin[i]].max_new_tokens)),
                ),
            },
        );
        Ok(())
    }
}
