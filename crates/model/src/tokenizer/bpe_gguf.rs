//! Byte-level byte-pair encoding from the lists of a GGUF file (`tokenizer.ggml.model` = `gpt2`).
//!
//! The merging itself is the `tokenizers` library's; finding special tokens and cutting into pieces is ours, so that
//! the ids equal llama.cpp's.

use super::special::Fragment;
use super::split::Splitter;
use super::vocabulary::{TokenKind, Vocabulary};
use crate::gguf::Gguf;
use tokenizers::Model;
use tokenizers::models::bpe::BPE;
use underdog_eval::{Error, Kind, Result};

/// A byte-level BPE tokenizer.
pub(super) struct BytePairs {
    vocabulary: Vocabulary,
    merges: BPE,
    splitter: Splitter,
    bytes: ByteLetters,
    is_llama3: bool,
}

impl BytePairs {
    /// Reads `tokenizer.ggml.merges` and `tokenizer.ggml.pre`; a file without the latter means `default`.
    pub(super) fn from_gguf(gguf: &Gguf, vocabulary: Vocabulary) -> Result<Self> {
        const MERGES: &str = "tokenizer.ggml.merges";
        let pre = gguf.metadata_str("tokenizer.ggml.pre").unwrap_or("default");
        let splitter = Splitter::named(pre)?;
        let lines = gguf.metadata_strings(MERGES).ok_or_else(|| {
            Error::new(Kind::Model, "the tokenizer of the model file has no merges")
                .expected("a list of pairs")
                .at(MERGES)
        })?;
        let mut pairs = Vec::with_capacity(lines.len());
        for (index, line) in lines.iter().enumerate() {
            // The first character belongs to the left half even where it is a space.
            let gap = line.char_indices().skip(1).find(|&(_, letter)| letter == ' ');
            let Some((gap, _)) = gap else {
                return Err(Error::new(Kind::Model, format!("merge {index} of the tokenizer is not a pair"))
                    .expected("two tokens with a space between them")
                    .found(format!("{line:?}"))
                    .at(MERGES));
            };
            pairs.push((line[..gap].to_string(), line[gap + 1..].to_string()));
        }
        let is_llama3 = pre == "llama-bpe";
        let ids: tokenizers::models::bpe::Vocab =
            vocabulary.ids().iter().map(|(text, &id)| (text.clone(), id)).collect();
        let merges = BPE::builder().vocab_and_merges(ids, pairs).ignore_merges(is_llama3).build().map_err(
            |error| {
                Error::new(Kind::Model, "the merges of the tokenizer do not fit its tokens")
                    .found(error.to_string())
                    .at(MERGES)
            },
        )?;
        Ok(BytePairs { vocabulary, merges, splitter, bytes: ByteLetters::new(), is_llama3 })
    }

    /// What holds where the file does not say whether a text begins with the BOS token.
    pub(super) fn adds_bos_by_default(&self) -> bool {
        self.is_llama3
    }

    pub(super) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut letters = String::new();
        for fragment in self.vocabulary.specials().split(text) {
            match fragment {
                Fragment::Token(id) => ids.push(id),
                Fragment::Text(range) => {
                    for piece in self.splitter.split(&text[range]) {
                        letters.clear();
                        letters.extend(piece.bytes().map(|byte| self.bytes.letter(byte)));
                        // Without an unknown token and without dropout, this model has no way to fail: letters
                        // that are not in the vocabulary are left out, as llama.cpp does.
                        let tokens = self.merges.tokenize(&letters).unwrap_or_default();
                        ids.extend(tokens.iter().map(|token| token.id));
                    }
                }
            }
        }
        ids
    }

    pub(super) fn decode(&self, ids: &[u32]) -> String {
        let bytes = self.vocabulary.bytes(ids, |id| self.piece(id));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(super) fn piece(&self, id: u32) -> Vec<u8> {
        match self.vocabulary.token(id) {
            None => Vec::new(),
            Some((text, TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown)) => {
                text.as_bytes().to_vec()
            }
            Some((text, _)) => self.bytes.decode(text),
        }
    }
}

/// GPT-2's way to write any byte as a printable letter.
pub(super) struct ByteLetters {
    letters: [char; 256],
}

impl ByteLetters {
    pub(super) fn new() -> Self {
        // Printable bytes stand for themselves; the others get the letters from U+0100 on, in order.
        let mut letters = ['\0'; 256];
        let mut next = 0x100u32;
        for byte in 0..=255u8 {
            letters[byte as usize] = if matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) {
                char::from(byte)
            } else {
                next += 1;
                char::from_u32(next - 1).unwrap_or('\0')
            };
        }
        ByteLetters { letters }
    }

    pub(super) fn letter(&self, byte: u8) -> char {
        self.letters[byte as usize]
    }

    /// The bytes that `text` stands for. A letter that stands for no byte gives its own UTF-8.
    pub(super) fn decode(&self, text: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(text.len());
        for letter in text.chars() {
            match self.byte(letter) {
                Some(byte) => bytes.push(byte),
                None => bytes.extend(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        bytes
    }

    /// The byte that `letter` stands for.
    pub(super) fn byte(&self, letter: char) -> Option<u8> {
        // Only 68 letters are not their own byte, so a search is short and needs no second table.
        match u8::try_from(letter) {
            Ok(byte) if self.letters[byte as usize] == letter => Some(byte),
            _ => self
                .letters
                .iter()
                .position(|&known| known == letter)
                .and_then(|byte| u8::try_from(byte).ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_letter_of_its_own_and_comes_back() {
        let bytes = ByteLetters::new();
        for byte in 0..=255u8 {
            assert_eq!(bytes.byte(bytes.letter(byte)), Some(byte), "byte {byte}");
        }
        assert_eq!(bytes.letter(b' '), 'Ġ');
        assert_eq!(bytes.letter(b'\n'), 'Ċ');
        assert_eq!(bytes.decode("Ġa中"), " a中".as_bytes());
    }
}
