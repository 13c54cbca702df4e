//! A BERT encoder with mean pooling, such as `all-minilm-l6-v2`: texts to vectors of length 1, behind the harness's
//! [`Embedder`] trait. In f32 throughout, so that its numbers are those of sentence-transformers up to rounding.
//!
//! What the vectors are good for (baselines, similar examples, the similarity of answers) is `eval`'s to say.

mod files;
mod layer;

use crate::catalogue::Cache;
use crate::reference::Reference;
use crate::tokenizer::{Tokenizer, read_object, special_text};
use files::Files;
use layer::Bert;
use rayon::prelude::*;
use serde::Serialize;
use std::path::Path;
use underdog_eval::embedder::Embedder;
use underdog_eval::model::Identity;
use underdog_eval::{Error, Kind, Result};

/// Tokens that one task works on: enough for the products to be efficient, few enough to stay in the cache of a core.
const GROUP_TOKENS: usize = 384;

/// What an encoder is, for `models inspect`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// `safetensors`, the only one.
    pub format: &'static str,
    /// `bert`, the only family.
    pub architecture: &'static str,
    /// Number of layers.
    pub layers: usize,
    /// Numbers in a vector.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// The inner width of the MLP.
    pub ffn: usize,
    /// Words of the vocabulary.
    pub vocab: usize,
    /// The longest text in tokens, the two around it included; the rest of a longer one is not seen.
    pub context: usize,
    /// Bytes of the weight file.
    pub bytes: u64,
    /// Changes with any byte of settings, tokenizer or weights.
    pub fingerprint: String,
}

/// Whether a directory is laid out as one of sentence-transformers and says that it holds a BERT.
pub fn is_encoder(directory: &Path) -> bool {
    let says_bert = |config: serde_json::Value| config["model_type"] == "bert";
    directory.join("modules.json").is_file()
        && read_object(&directory.join("config.json")).is_ok_and(says_bert)
}

/// What the encoder in `directory` is, without its weights being read into memory.
///
/// # Errors
/// As [`Encoder::open`], but for the tokenizer's and the tensors' own faults.
pub fn summary(directory: &Path) -> Result<Summary> {
    let Files { config, max_tokens, fingerprint, map, .. } = Files::open(directory)?;
    Ok(Summary {
        format: "safetensors",
        architecture: "bert",
        layers: config.layers,
        width: config.width,
        heads: config.heads,
        ffn: config.ffn,
        vocab: config.vocab,
        context: max_tokens,
        bytes: map.len() as u64,
        fingerprint,
    })
}

/// An encoder that is ready to use; immutable.
pub struct Encoder {
    bert: Bert,
    tokenizer: Tokenizer,
    first: u32,
    last: u32,
    max_tokens: usize,
    width: usize,
    name: String,
    fingerprint: String,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("name", &self.name).field("width", &self.width).finish()
    }
}

impl Encoder {
    /// Opens a catalogue name that is in the cache, or a directory.
    ///
    /// # Errors
    /// When it is not there, or as [`Encoder::open`].
    pub fn load(reference: &str, cache: &Cache) -> Result<Encoder> {
        let parsed = Reference::parse(reference)?;
        if parsed.adapter.is_some() {
            return Err(
                Error::new(Kind::Usage, "an encoder takes no adapter").found(format!("`{reference}`"))
            );
        }
        Encoder::open(&parsed.locate(cache)?, reference)
    }

    /// Opens a Hugging Face directory with `config.json`, `model.safetensors`, `tokenizer.json`, and the settings of
    /// sentence-transformers (`modules.json`, `1_Pooling/config.json`, `sentence_bert_config.json`). `name` is what it is
    /// called in records.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the model is no BERT with mean pooling.
    pub fn open(directory: &Path, name: &str) -> Result<Encoder> {
        if !directory.is_dir() {
            return Err(Error::new(Kind::Model, "this is no encoder")
                .expected("a directory such as all-minilm-l6-v2")
                .found("a file")
                .at(directory.display().to_string()));
        }
        let files = Files::open(directory)?;
        let tokenizer = Tokenizer::from_directory(directory)?;
        let settings = read_object(&directory.join("tokenizer_config.json"))?;
        let mark = |key: &str, usual: &str| {
            let text = special_text(&settings, key).unwrap_or(usual).to_owned();
            tokenizer.token_id(&text).ok_or_else(|| {
                Error::new(Kind::Model, "the tokenizer lacks a token that goes around every text")
                    .expected(text)
                    .at(directory.join("tokenizer.json").display().to_string())
            })
        };
        let (first, last) = (mark("cls_token", "[CLS]")?, mark("sep_token", "[SEP]")?);
        if tokenizer.vocab_size() > files.config.vocab {
            return Err(Error::new(Kind::Model, "the tokenizer has more tokens than the model")
                .expected(format!("at most {}", files.config.vocab))
                .found(tokenizer.vocab_size().to_string())
                .at(directory.display().to_string()));
        }
        Ok(Encoder {
            bert: Bert::load(&files.weights()?, &files.config)?,
            tokenizer,
            first,
            last,
            max_tokens: files.max_tokens,
            width: files.config.width,
            name: name.to_owned(),
            fingerprint: files.fingerprint,
        })
    }

    /// Numbers in a vector.
    pub fn dimension(&self) -> usize {
        self.width
    }

    /// The token ids of `text` as the encoder sees them: between its two special tokens, cut at the length that it was
    /// made for (256 tokens in all for `all-minilm-l6-v2`).
    pub fn tokens(&self, text: &str) -> Vec<u32> {
        let mut ids = vec![self.first];
        ids.extend(self.tokenizer.encode(text).into_iter().take(self.max_tokens - 2));
        ids.push(self.last);
        ids
    }

    /// The vectors of `texts`, in their order; a text does not influence another one's beyond rounding.
    pub fn vectors(&self, texts: &[&str]) -> Vec<Vec<f32>> {
        let tokens: Vec<Vec<u32>> = texts.par_iter().map(|text| self.tokens(text)).collect();
        // Equal lengths next to each other, and equal texts, which are computed once.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by(|&a, &b| (tokens[a].len(), &tokens[a]).cmp(&(tokens[b].len(), &tokens[b])));
        let mut first_of = vec![0; texts.len()];
        let mut distinct: Vec<&[u32]> = Vec::new();
        for &index in &order {
            if distinct.last() != Some(&tokens[index].as_slice()) {
                distinct.push(&tokens[index]);
            }
            first_of[index] = distinct.len() - 1;
        }
        let groups: Vec<Vec<Vec<f32>>> =
            groups(&distinct).into_par_iter().map(|group| self.bert.embed(group)).collect();
        let vectors: Vec<Vec<f32>> = groups.into_iter().flatten().collect();
        first_of.into_iter().map(|place| vectors[place].clone()).collect()
    }
}

/// Runs of sequences of about [`GROUP_TOKENS`] tokens each. They do not depend on the number of threads.
fn groups<'a, 'b>(mut sequences: &'a [&'b [u32]]) -> Vec<&'a [&'b [u32]]> {
    let mut groups = Vec::new();
    while !sequences.is_empty() {
        let mut tokens = 0;
        let more = |sequence: &&[u32]| {
            tokens += sequence.len();
            tokens <= GROUP_TOKENS
        };
        let count = sequences.iter().copied().take_while(more).count().max(1);
        let (group, rest) = sequences.split_at(count);
        groups.push(group);
        sequences = rest;
    }
    groups
}

impl Embedder for Encoder {
    fn identity(&self) -> Identity {
        Identity { name: self.name.clone(), fingerprint: self.fingerprint.clone() }
    }

    fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        Ok(self.vectors(texts))
    }
}
