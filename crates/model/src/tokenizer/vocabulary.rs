//! The token list of a GGUF file: texts, kinds and the way back from a text to its id.
//!
//! How text becomes tokens is left to the tokenizers that hold a [`Vocabulary`].

use super::special::Specials;
use crate::gguf::Gguf;
use std::collections::HashMap;
use underdog_eval::{Error, Kind, Result};

/// What a token is, in the numbers of `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl TokenKind {
    fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            1 => TokenKind::Normal,
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            5 => TokenKind::Unused,
            6 => TokenKind::Byte,
            _ => return None,
        })
    }

    /// Left out of decoded text.
    pub(super) fn is_silent(self) -> bool {
        matches!(self, TokenKind::Control | TokenKind::Unknown)
    }

    /// Found in the text as it is written, before anything else looks at it.
    fn is_special(self) -> bool {
        matches!(self, TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined)
    }
}

/// Texts and kinds by id, ids by text.
pub(super) struct Vocabulary {
    tokens: Vec<String>,
    kinds: Vec<TokenKind>,
    ids: HashMap<String, u32>,
    specials: Specials,
}

impl Vocabulary {
    /// Reads `tokenizer.ggml.tokens` and `tokenizer.ggml.token_type` (all normal where that is missing).
    pub(super) fn from_gguf(gguf: &Gguf) -> Result<Self> {
        const TOKENS: &str = "tokenizer.ggml.tokens";
        const TYPES: &str = "tokenizer.ggml.token_type";
        let tokens = gguf.metadata_strings(TOKENS).ok_or_else(|| {
            Error::new(Kind::Model, "the tokenizer of the model file has no tokens")
                .expected("a list of texts")
                .at(TOKENS)
        })?;
        let numbers = gguf.metadata_i32s(TYPES);
        if let Some(numbers) = &numbers
            && numbers.len() != tokens.len()
        {
            return Err(Error::new(
                Kind::Model,
                "the tokenizer lists of the model file do not fit each other",
            )
            .expected(format!("{} token types", tokens.len()))
            .found(numbers.len().to_string())
            .at(TYPES));
        }
        let mut kinds = vec![TokenKind::Normal; tokens.len()];
        for (index, &number) in numbers.iter().flat_map(|numbers| numbers.iter()).enumerate() {
            kinds[index] = TokenKind::from_number(number).ok_or_else(|| {
                Error::new(Kind::Model, format!("token {index} is of an unknown kind"))
                    .expected("1 to 6")
                    .found(number.to_string())
                    .at(TYPES)
            })?;
        }
        Vocabulary::new(tokens.to_vec(), kinds)
    }

    /// A vocabulary of `tokens`, whose index is the id. The last of two equal texts wins, as in llama.cpp.
    pub(super) fn new(tokens: Vec<String>, kinds: Vec<TokenKind>) -> Result<Self> {
        if u32::try_from(tokens.len()).is_err() {
            return Err(
                Error::new(Kind::Model, "the vocabulary is too large").found(tokens.len().to_string())
            );
        }
        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, text) in (0u32..).zip(&tokens) {
            if !text.is_empty() {
                ids.insert(text.clone(), id);
            }
        }
        let specials = Specials::new(
            (0u32..)
                .zip(&tokens)
                .zip(&kinds)
                .filter(|(_, kind)| kind.is_special())
                .map(|((id, text), _)| (text.as_str(), id)),
        );
        Ok(Vocabulary { tokens, kinds, ids, specials })
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    /// Text and kind of `id`.
    pub(super) fn token(&self, id: u32) -> Option<(&str, TokenKind)> {
        let index = id as usize;
        Some((self.tokens.get(index)?, *self.kinds.get(index)?))
    }

    /// The pieces of all tokens that are text, one after the other.
    pub(super) fn bytes(&self, ids: &[u32], piece: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
        let spoken = |id: &&u32| self.token(**id).is_some_and(|(_, kind)| !kind.is_silent());
        ids.iter().filter(spoken).flat_map(|&id| piece(id)).collect()
    }

    /// All texts with their ids, the last of equal ones only.
    pub(super) fn ids(&self) -> &HashMap<String, u32> {
        &self.ids
    }

    pub(super) fn specials(&self) -> &Specials {
        &self.specials
    }
}
