//! SentencePiece tokens by score, from the lists of a GGUF file (`tokenizer.ggml.model` = `llama`; Gemma).
//!
//! Characters merge pairwise, the pair whose token has the highest score first (of equal ones the leftmost), until no
//! pair is a token. What is no token in the end is spelled out in bytes.

use super::mark;
use super::special::Fragment;
use super::vocabulary::{TokenKind, Vocabulary};
use crate::gguf::Gguf;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use underdog_eval::{Error, Kind, Result};

/// What a space is written as in the vocabulary.
pub(super) const SPACE: &str = "\u{2581}";

/// A SentencePiece tokenizer.
pub(super) struct Pieces {
    vocabulary: Vocabulary,
    scores: Vec<f32>,
    /// The token of each byte.
    bytes: Vec<Option<u32>>,
    unknown: Option<u32>,
    adds_space: bool,
}

impl Pieces {
    /// Reads `tokenizer.ggml.scores` and `tokenizer.ggml.add_space_prefix` (true where the file does not say).
    pub(super) fn from_gguf(gguf: &Gguf, vocabulary: Vocabulary) -> Result<Self> {
        const SCORES: &str = "tokenizer.ggml.scores";
        let scores = gguf.metadata_f32s(SCORES).ok_or_else(|| {
            Error::new(Kind::Model, "the tokenizer of the model file has no scores")
                .expected("a list of numbers")
                .at(SCORES)
        })?;
        if scores.len() != vocabulary.len() || scores.iter().any(|score| score.is_nan()) {
            return Err(Error::new(Kind::Model, "the scores of the tokenizer do not fit its tokens")
                .expected(format!("{} numbers", vocabulary.len()))
                .found(format!(
                    "{}, {} of them not a number",
                    scores.len(),
                    scores.iter().filter(|s| s.is_nan()).count()
                ))
                .at(SCORES));
        }
        let bytes = (0..=255u8)
            .map(|byte| {
                let raw = std::str::from_utf8(std::slice::from_ref(&byte))
                    .ok()
                    .and_then(|text| vocabulary.id(text));
                vocabulary.id(&format!("<0x{byte:02X}>")).or(raw)
            })
            .collect();
        let unknown = mark(gguf, "tokenizer.ggml.unknown_token_id", None, vocabulary.len())?;
        let adds_space = gguf.metadata_bool("tokenizer.ggml.add_space_prefix").unwrap_or(true);
        // Adding zero makes -0.0 equal to 0.0 in the total order of the heap.
        let scores = scores.iter().map(|score| score + 0.0).collect();
        Ok(Pieces { vocabulary, scores, bytes, unknown, adds_space })
    }

    pub(super) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut begins = true;
        for fragment in self.vocabulary.specials().split(text) {
            match fragment {
                Fragment::Token(id) => {
                    ids.push(id);
                    begins = true;
                }
                Fragment::Text(range) => {
                    let prefix = if self.adds_space && begins { SPACE } else { "" };
                    let text = format!("{prefix}{}", text[range].replace(' ', SPACE));
                    Merge::new(self, &text).run(&mut ids);
                    begins = false;
                }
            }
        }
        ids
    }

    pub(super) fn decode(&self, ids: &[u32]) -> String {
        let bytes = self.vocabulary.bytes(ids, |id| self.piece(id));
        let text = String::from_utf8_lossy(&bytes);
        let text = if self.adds_space { text.strip_prefix(' ').unwrap_or(&text) } else { &text };
        text.to_string()
    }

    pub(super) fn piece(&self, id: u32) -> Vec<u8> {
        match self.vocabulary.token(id) {
            None => Vec::new(),
            Some((text, TokenKind::Byte)) => match byte_of(text) {
                Some(byte) => vec![byte],
                None => text.as_bytes().to_vec(),
            },
            Some((text, TokenKind::Normal | TokenKind::Unused)) => text.replace(SPACE, " ").into_bytes(),
            Some((text, _)) => text.as_bytes().to_vec(),
        }
    }
}

/// The byte that a token like `<0x0A>` stands for.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    u8::from_str_radix(text.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok()
}

/// A stretch of text that is one token, or one character so far. Its neighbours are indices into the list of all.
#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    /// In bytes; 0 once it was merged into its left neighbour.
    length: usize,
    left: Option<usize>,
    right: Option<usize>,
}

/// Two neighbours whose text is a token.
#[derive(PartialEq)]
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Of both together, in bytes: tells a pair that is out of date.
    length: usize,
}

impl Eq for Pair {}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| Reverse(self.left).cmp(&Reverse(other.left)))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The merging of one stretch of text.
struct Merge<'a> {
    pieces: &'a Pieces,
    text: &'a str,
    symbols: Vec<Symbol>,
    pairs: BinaryHeap<Pair>,
}

impl<'a> Merge<'a> {
    fn new(pieces: &'a Pieces, text: &'a str) -> Self {
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .enumerate()
            .map(|(index, (start, letter))| Symbol {
                start,
                length: letter.len_utf8(),
                left: index.checked_sub(1),
                right: Some(index + 1),
            })
            .collect();
        if let Some(last) = symbols.last_mut() {
            last.right = None;
        }
        Merge { pieces, text, symbols, pairs: BinaryHeap::new() }
    }

    /// Merges until no pair is a token, and appends the ids to `ids`.
    fn run(mut self, ids: &mut Vec<u32>) {
        for right in 1..self.symbols.len() {
            self.consider(right - 1, right);
        }
        while let Some(pair) = self.pairs.pop() {
            let (left, right) = (self.symbols[pair.left], self.symbols[pair.right]);
            if left.length == 0 || right.length == 0 || left.length + right.length != pair.length {
                continue;
            }
            self.symbols[pair.left].length = pair.length;
            self.symbols[pair.left].right = right.right;
            self.symbols[pair.right].length = 0;
            if let Some(next) = right.right {
                self.symbols[next].left = Some(pair.left);
                self.consider(pair.left, next);
            }
            if let Some(previous) = left.left {
                self.consider(previous, pair.left);
            }
        }
        let mut next = (!self.symbols.is_empty()).then_some(0);
        while let Some(index) = next {
            let symbol = self.symbols[index];
            self.spell(&self.text[symbol.start..symbol.start + symbol.length], ids);
            next = symbol.right;
        }
    }

    /// Remembers the pair when its text is a token.
    fn consider(&mut self, left: usize, right: usize) {
        let (first, second) = (self.symbols[left], self.symbols[right]);
        let length = first.length + second.length;
        if let Some(id) = self.pieces.vocabulary.id(&self.text[first.start..first.start + length]) {
            self.pairs.push(Pair { score: self.pieces.scores[id as usize], left, right, length });
        }
    }

    /// The token of `text`, or the tokens of its bytes; a byte without a token becomes the unknown token.
    fn spell(&self, text: &str, ids: &mut Vec<u32>) {
        match self.pieces.vocabulary.id(text) {
            Some(id) => ids.push(id),
            None => ids.extend(
                text.bytes().filter_map(|byte| self.pieces.bytes[byte as usize].or(self.pieces.unknown)),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens with their scores; all normal but those in angle brackets, which are bytes.
    fn pieces(tokens: &[(&str, f32)], adds_space: bool) -> Pieces {
        let kinds = tokens.iter().map(|(text, _)| match text.starts_with("<0x") {
            true => TokenKind::Byte,
            false => TokenKind::Normal,
        });
        let vocabulary =
            Vocabulary::new(tokens.iter().map(|t| t.0.to_string()).collect(), kinds.collect()).unwrap();
        let bytes = (0..=255u8).map(|byte| vocabulary.id(&format!("<0x{byte:02X}>"))).collect();
        let scores = tokens.iter().map(|token| token.1).collect();
        Pieces { vocabulary, scores, bytes, unknown: None, adds_space }
    }

    #[test]
    fn the_highest_score_merges_first_and_of_equal_ones_the_leftmost() {
        let by_score = pieces(&[("a", 0.0), ("b", 0.0), ("ab", -2.0), ("ba", -1.0)], false);
        assert_eq!(by_score.encode("aba"), [0, 3]);
        let equal = pieces(&[("a", 0.0), ("b", 0.0), ("ab", -1.0), ("ba", -1.0)], false);
        assert_eq!(equal.encode("aba"), [2, 0]);
    }

    #[test]
    fn what_is_no_token_is_spelled_in_bytes_and_comes_back() {
        let spelled = pieces(&[("a", 0.0), ("<0xC3>", 0.0), ("<0xA9>", 0.0)], false);
        assert_eq!(spelled.encode("aé"), [0, 1, 2]);
        assert_eq!(spelled.decode(&[0, 1, 2]), "aé");
        assert_eq!(spelled.decode(&[1]), "\u{fffd}");
    }

    #[test]
    fn a_space_is_put_before_the_text_where_the_file_asks_for_it() {
        let tokens = [("a", 0.0), (SPACE, 0.0), ("\u{2581}a", 1.0)];
        assert_eq!(pieces(&tokens, true).encode("a a"), [2, 2]);
        assert_eq!(pieces(&tokens, false).encode("a a"), [0, 2]);
        assert_eq!(pieces(&tokens, true).decode(&[2, 2]), "a a");
    }
}
