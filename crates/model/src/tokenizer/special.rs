//! Finds special tokens as they are written in a text, in the order in which llama.cpp finds them.
//!
//! What lies between them is left to the tokenizer proper.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;

/// A stretch of text after the special tokens were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    /// Ordinary text, never empty: a byte range.
    Text(Range<usize>),
    /// A special token.
    Token(u32),
}

/// The special tokens of a vocabulary.
pub(super) struct Specials {
    ids: HashMap<Vec<u8>, u32>,
    /// The lengths that occur, by first byte, so that most positions of a text cost one look.
    lengths: Vec<Vec<usize>>,
}

impl Specials {
    pub(super) fn new<'a>(tokens: impl Iterator<Item = (&'a str, u32)>) -> Self {
        let mut ids = HashMap::new();
        let mut lengths = vec![Vec::new(); 256];
        for (text, id) in tokens {
            let Some(&first) = text.as_bytes().first() else { continue };
            ids.insert(text.as_bytes().to_vec(), id);
            let lengths: &mut Vec<usize> = &mut lengths[first as usize];
            if !lengths.contains(&text.len()) {
                lengths.push(text.len());
            }
        }
        Specials { ids, lengths }
    }

    /// Splits `text`. The longest special tokens take their places first, wherever in the text they are, each from
    /// left to right; shorter ones get what is left. (This is not the same as the longest match from the left.)
    pub(super) fn split(&self, text: &str) -> Vec<Fragment> {
        let mut found = self.occurrences(text.as_bytes());
        found.sort_unstable_by_key(|&(start, length, _)| (Reverse(length), start));
        // Places that are taken, sorted by start once all are known; a set of starts and ends finds clashes.
        let mut taken = Taken::default();
        let mut accepted: Vec<(usize, usize, u32)> = Vec::new();
        for (start, length, id) in found {
            if taken.take(start..start + length) {
                accepted.push((start, length, id));
            }
        }
        accepted.sort_unstable();
        let mut fragments = Vec::with_capacity(2 * accepted.len() + 1);
        let mut from = 0;
        for (start, length, id) in accepted {
            if from < start {
                fragments.push(Fragment::Text(from..start));
            }
            fragments.push(Fragment::Token(id));
            from = start + length;
        }
        if from < text.len() {
            fragments.push(Fragment::Text(from..text.len()));
        }
        fragments
    }

    /// Every occurrence of every special token, overlapping ones too: start, length, id.
    fn occurrences(&self, bytes: &[u8]) -> Vec<(usize, usize, u32)> {
        let mut found = Vec::new();
        for (start, &first) in bytes.iter().enumerate() {
            for &length in &self.lengths[first as usize] {
                if let Some(id) = bytes.get(start..start + length).and_then(|part| self.ids.get(part)) {
                    found.push((start, length, *id));
                }
            }
        }
        found
    }
}

/// Byte ranges without overlap.
#[derive(Default)]
struct Taken(std::collections::BTreeMap<usize, usize>);

impl Taken {
    /// Takes `range` unless a part of it is taken.
    fn take(&mut self, range: Range<usize>) -> bool {
        let clash = self.0.range(..range.end).next_back().is_some_and(|(_, &end)| end > range.start);
        if !clash {
            self.0.insert(range.start, range.end);
        }
        !clash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specials() -> Specials {
        Specials::new([("\n", 1), ("\n\n", 2), ("\n\n\n", 3), ("<a>", 4), ("b\n\n\nc", 5)].into_iter())
    }

    #[test]
    fn the_longest_token_takes_its_place_first() {
        assert_eq!(
            specials().split("x\n\n\n\ny"),
            [Fragment::Text(0..1), Fragment::Token(3), Fragment::Token(1), Fragment::Text(5..6)]
        );
        // From the left, the two line ends would come first.
        assert_eq!(specials().split("<a>b\n\n\nc"), [Fragment::Token(4), Fragment::Token(5)]);
    }

    #[test]
    fn text_without_special_tokens_is_one_fragment_and_no_text_is_none() {
        assert_eq!(specials().split("plain <b> text"), [Fragment::Text(0..14)]);
        assert_eq!(specials().split(""), []);
    }

    #[test]
    fn a_later_longer_token_wins_over_an_earlier_shorter_one() {
        let specials = Specials::new([("ab", 1), ("bcd", 2)].into_iter());
        assert_eq!(specials.split("abcd"), [Fragment::Text(0..1), Fragment::Token(2)]);
    }
}
