//! Text to token ids and back, from the tokenizer inside a GGUF file or a `tokenizer.json`.
//!
//! Ids of GGUF files equal llama.cpp's (special tokens in the text recognised, nothing added), ids of a
//! `tokenizer.json` those of the `tokenizers` library. This module adds no tokens of its own: a beginning-of-text
//! token comes from the chat template, or from the caller after [`Tokenizer::adds_bos`].

mod bpe_gguf;
mod directory;
mod sentencepiece;
mod special;
mod split;
mod vocabulary;

use crate::gguf::Gguf;
pub(crate) use directory::{read_object, special_text};
use std::path::Path;
use underdog_eval::{Error, Kind, Result};

/// A tokenizer: immutable, to be shared between threads.
pub struct Tokenizer {
    engine: Engine,
    marks: Marks,
}

/// The ways to tokenise that are known. Boxed, because their sizes differ much.
enum Engine {
    /// `tokenizer.ggml.model` = `gpt2`.
    BytePairs(Box<bpe_gguf::BytePairs>),
    /// `tokenizer.ggml.model` = `llama`.
    Pieces(Box<sentencepiece::Pieces>),
    /// `tokenizer.json`.
    Json(Box<directory::JsonTokenizer>),
}

/// The tokens that begin and end a text.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    bos: Option<u32>,
    eos: Option<u32>,
    adds_bos: bool,
}

impl std::fmt::Debug for Tokenizer {
    /// The size and the marks, not the thousands of tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("marks", &self.marks)
            .finish()
    }
}

impl Tokenizer {
    /// Reads the tokenizer from the metadata of a GGUF file.
    ///
    /// # Errors
    /// When `tokenizer.ggml.model` or `tokenizer.ggml.pre` names a kind that is not known, or when a list is
    /// missing or does not fit the others.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        const MODEL: &str = "tokenizer.ggml.model";
        let model = gguf.metadata_str(MODEL).ok_or_else(|| {
            Error::new(Kind::Model, "the model file has no tokenizer")
                .expected(format!("the metadata key {MODEL}"))
                .hint("use a file that was exported with its tokenizer")
        })?;
        let vocabulary = vocabulary::Vocabulary::from_gguf(gguf)?;
        let size = vocabulary.len();
        let (engine, adds_bos_by_default) = match model {
            "gpt2" => {
                let pairs = bpe_gguf::BytePairs::from_gguf(gguf, vocabulary)?;
                let adds = pairs.adds_bos_by_default();
                (Engine::BytePairs(Box::new(pairs)), adds)
            }
            "llama" => (Engine::Pieces(Box::new(sentencepiece::Pieces::from_gguf(gguf, vocabulary)?)), true),
            other => {
                return Err(Error::new(Kind::Model, "the tokenizer of the model file is of an unknown kind")
                    .expected("gpt2 or llama")
                    .found(other)
                    .at(MODEL));
            }
        };
        // A llama.cpp vocabulary of this kind has fixed ids where the file names none.
        let (bos_default, eos_default) = if model == "llama" { (Some(1), Some(2)) } else { (None, None) };
        let marks = Marks {
            bos: mark(gguf, "tokenizer.ggml.bos_token_id", bos_default, size)?,
            eos: mark(gguf, "tokenizer.ggml.eos_token_id", eos_default, size)?,
            adds_bos: gguf.metadata_bool("tokenizer.ggml.add_bos_token").unwrap_or(adds_bos_by_default),
        };
        Ok(Tokenizer { engine, marks })
    }

    /// Reads `tokenizer.json` (and `tokenizer_config.json`, where there is one) of a Hugging Face directory.
    ///
    /// # Errors
    /// When `tokenizer.json` is missing or broken, or when its model could meet text that it cannot express.
    pub fn from_directory(dir: &Path) -> Result<Self> {
        let (json, marks) = directory::open(dir)?;
        Ok(Tokenizer { engine: Engine::Json(Box::new(json)), marks })
    }

    /// The token ids of `text`. Special tokens written in the text are recognised; nothing is added.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        match &self.engine {
            Engine::BytePairs(pairs) => pairs.encode(text),
            Engine::Pieces(pieces) => pieces.encode(text),
            Engine::Json(json) => json.encode(text),
        }
    }

    /// The text of `ids`. Bytes that are not UTF-8 become U+FFFD; special (control) tokens and ids outside the
    /// vocabulary are left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        match &self.engine {
            Engine::BytePairs(pairs) => pairs.decode(ids),
            Engine::Pieces(pieces) => pieces.decode(ids),
            Engine::Json(json) => json.decode(ids),
        }
    }

    /// The raw bytes of one token, special ones as they are written; empty for an id outside the vocabulary. For
    /// previews and for streaming, where a character may be spread over several tokens.
    pub fn decode_piece(&self, id: u32) -> Vec<u8> {
        match &self.engine {
            Engine::BytePairs(pairs) => pairs.piece(id),
            Engine::Pieces(pieces) => pieces.piece(id),
            Engine::Json(json) => json.piece(id),
        }
    }

    /// The token that begins a text, where there is one.
    pub fn bos(&self) -> Option<u32> {
        self.marks.bos
    }

    /// The token that ends a text, where there is one.
    pub fn eos(&self) -> Option<u32> {
        self.marks.eos
    }

    /// Whether the model was trained with [`bos`](Self::bos) before every text.
    pub fn adds_bos(&self) -> bool {
        self.marks.adds_bos
    }

    /// The number of ids, special tokens included: one more than the highest id.
    pub fn vocab_size(&self) -> usize {
        match &self.engine {
            Engine::BytePairs(pairs) => pairs.vocabulary().len(),
            Engine::Pieces(pieces) => pieces.vocabulary().len(),
            Engine::Json(json) => json.vocab_size(),
        }
    }

    /// The id of the token that is written exactly `text` in the vocabulary.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        match &self.engine {
            Engine::BytePairs(pairs) => pairs.vocabulary().id(text),
            Engine::Pieces(pieces) => pieces.vocabulary().id(text),
            Engine::Json(json) => json.token_id(text),
        }
    }
}

/// The id under `key`, or `default` where the file is silent and the vocabulary is large enough.
fn mark(gguf: &Gguf, key: &str, default: Option<u32>, size: usize) -> Result<Option<u32>> {
    let Some(id) = gguf.metadata_u64(key) else {
        return Ok(default.filter(|&id| (id as usize) < size));
    };
    match u32::try_from(id).ok().filter(|&id| (id as usize) < size) {
        Some(id) => Ok(Some(id)),
        None => Err(Error::new(Kind::Model, "a special token lies outside the vocabulary")
            .expected(format!("an id below {size}"))
            .found(id.to_string())
            .at(key)),
    }
}
