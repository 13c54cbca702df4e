//! A local candidate: weights, tokenizer, chat template and perhaps an adapter, behind the harness's [`Model`] trait.
//!
//! There is one way from messages to tokens, [`LanguageModel::prompt_tokens`]; training, evaluation and chat all take it, but for a
//! model without an adapter that was never taught a chat template (`plain`). What a candidate is called is in `identity`.

mod choosing;
mod identity;
mod plain;

use crate::adapter;
use crate::catalogue::Cache;
use crate::chat::ChatTemplate;
use crate::checkpoint::Checkpoint;
use crate::choose::{Choice, Length};
use crate::constrain::{Constraint, Grammar};
use crate::export::SHOTS;
use crate::generate::{Choose, Event, Limits, Prompt, Settings, generate_with};
use crate::linear::Precision;
use crate::lora::Lora;
use crate::reference::Reference;
use crate::sampling::Sampling;
use crate::tokenizer::Tokenizer;
use crate::transformer::Transformer;
use plain::Plain;
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
    /// Where the template is not the model's own.
    plain: Option<Plain>,
    base: String,
    adapter_path: Option<String>,
    base_fingerprint: String,
    shots: usize,
    shows_none: bool,
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
        let plain = (!template.is_own()).then(|| Plain::new(&tokenizer, &stop));
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
            plain,
            shots: match (&origin, checkpoint.gguf()) {
                (Some(origin), _) => origin.shots,
                // What a merged adapter was trained with.
                (None, Some(gguf)) if reference.adapter.is_none() => {
                    gguf.metadata_u64(SHOTS).map_or(0, |shots| shots as usize)
                }
                _ => 0,
            },
            shows_none: false,
            constraint: None,
            choice: None,
        })
    }

    /// Similar training rows that stood before every question when the adapter, or one that was merged, was trained.
    pub fn shots(&self) -> usize {
        self.shots
    }

    /// From now on its name says that it is asked without the similar rows that it was trained with.
    pub fn show_none(&mut self) {
        self.shows_none = self.shots > 0;
    }

    /// From now on gives only answers that fit `grammar`; `name` is what records call that.
    ///
    /// # Errors
    /// When the grammar cannot be used.
    pub fn constrain(&mut self, grammar: &Grammar, name: &str) -> Result<()> {
        self.constraint = Some(Constraint::new(grammar, name, &self.tokenizer, self.ends())?);
        Ok(())
    }

    /// From now on answers with the most probable of the `labels`.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn choose_among(&mut self, labels: &[String], length: Length) -> Result<()> {
        let tokens = |label: &String| match self.plain() {
            Some(plain) => [self.tokenizer.encode(label), plain.end.clone()].concat(),
            None => self.completion_tokens(label),
        };
        let tokens = labels.iter().map(tokens).collect();
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
        Settings { stop: self.ends(), limits, cache, lookup }
    }

    /// How it is asked, where not by a chat template: an adapter has learned the template.
    fn plain(&self) -> Option<&Plain> {
        self.plain.as_ref().filter(|_| self.lora.is_none())
    }

    /// Tokens at which an answer ends as the model is asked now.
    fn ends(&self) -> &[u32] {
        self.plain().map_or(&self.stop, |plain| &plain.stop)
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
        Ok(self.with_beginning(&self.template.render(messages, true)?))
    }

    /// A conversation as the model is asked now: as in training, or without an adapter and a template of its own as plain text.
    fn asked_tokens(&self, messages: &[Message]) -> Result<Vec<u32>> {
        match self.plain() {
            Some(_) => Ok(self.with_beginning(&Plain::text(messages))),
            None => self.prompt_tokens(messages),
        }
    }

    fn with_beginning(&self, text: &str) -> Vec<u32> {
        let mut tokens = self.tokenizer.encode(text);
        if let Some(bos) =
            self.tokenizer.bos().filter(|bos| self.tokenizer.adds_bos() && tokens.first() != Some(bos))
        {
            tokens.insert(0, bos);
        }
        tokens
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
        let tokens = self.asked_tokens(&request.messages)?;
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
                        let text = self.text(&ids);
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

    /// What these tokens of an answer say.
    fn text(&self, tokens: &[u32]) -> String {
        let text = self.tokenizer.decode(tokens);
        match self.plain() {
            Some(_) => Plain::answer(&text).to_owned(),
            None => text,
        }
    }

    fn output(&self, prompt: &Prompt, done: crate::generate::Continuation, max_new: usize) -> Output {
        let kept = &done.tokens[..done.tokens.len().min(max_new)];
        let stopped = done.finish == Finish::Stop;
        Output {
            text: self.text(kept),
            finish: done.finish,
            prompt_tokens: prompt.tokens.len(),
            computed_tokens: done.computed,
            new_tokens: kept.len() + usize::from(stopped),
            seconds: done.seconds,
        }
    }
}

impl Model for LanguageModel {
    fn identity(&self) -> Identity {
        self.named()
    }

    fn how(&self) -> Option<String> {
        self.way()
    }

    fn prompt_len(&self, messages: &[Message]) -> Option<usize> {
        self.asked_tokens(messages).ok().map(|tokens| tokens.len())
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
