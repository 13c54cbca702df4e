//! Edit distance and longest common subsequence of two sequences, 64 cells of the table at a time, so that outputs of
//! megabytes against references of ordinary length take milliseconds. Both are exact.
//!
//! Sources: Hyyrö, "Explaining and extending the bit-parallel approximate string matching algorithm of Myers" (2001),
//! in blocks; Hyyrö, "Bit-parallel LCS-length computation revisited" (2004).

use std::collections::HashMap;
use std::hash::Hash;

/// Most cells of the table that are computed, 64 of them in one operation: about a second. Beyond it there is a reason
/// in place of a number.
pub(super) const MOST_CELLS: u128 = 20_000_000_000;

const WORD: usize = 64;

/// Where each symbol stands in a pattern, one bit a position.
struct Places<T> {
    of: HashMap<T, usize>,
    bits: Vec<u64>,
    blocks: usize,
}

impl<T: Eq + Hash + Copy> Places<T> {
    fn new(pattern: &[T]) -> Self {
        let blocks = pattern.len().div_ceil(WORD);
        let (mut of, mut bits) = (HashMap::new(), Vec::new());
        for (i, symbol) in pattern.iter().enumerate() {
            let start = *of.entry(*symbol).or_insert_with(|| {
                bits.resize(bits.len() + blocks, 0);
                bits.len() - blocks
            });
            bits[start + i / WORD] |= 1u64 << (i % WORD);
        }
        Places { of, bits, blocks }
    }

    fn get(&self, symbol: &T) -> Option<&[u64]> {
        self.of.get(symbol).map(|start| &self.bits[*start..*start + self.blocks])
    }
}

/// The shorter first, for the fewest cells; refused when there are too many.
fn sorted<'a, T>(a: &'a [T], b: &'a [T]) -> Result<(&'a [T], &'a [T]), String> {
    if a.len() as u128 * b.len() as u128 > MOST_CELLS {
        return Err(format!(
            "too long to compare: {} and {} symbols, more than {MOST_CELLS} pairs",
            a.len(),
            b.len()
        ));
    }
    Ok(if a.len() <= b.len() { (a, b) } else { (b, a) })
}

/// Length of the longest common subsequence.
///
/// # Errors
/// In one line, when there are more than [`MOST_CELLS`] pairs of symbols.
pub(super) fn common_subsequence<T: Eq + Hash + Copy>(a: &[T], b: &[T]) -> Result<usize, String> {
    let (pattern, text) = sorted(a, b)?;
    let places = Places::new(pattern);
    let mut state = vec![u64::MAX; places.blocks];
    for symbol in text {
        let Some(matches) = places.get(symbol) else { continue };
        let mut carry = false;
        for (v, m) in state.iter_mut().zip(matches) {
            let u = *v & m;
            let (sum, first) = v.overflowing_add(u);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            carry = first || second;
            *v = sum | (*v & !m);
        }
    }
    let zeros: usize = state.iter().map(|v| v.count_zeros() as usize).sum();
    Ok(zeros)
}

/// Levenshtein distance: fewest insertions, deletions and replacements of one symbol.
///
/// # Errors
/// In one line, when there are more than [`MOST_CELLS`] pairs of symbols.
pub(super) fn edit_distance<T: Eq + Hash + Copy>(a: &[T], b: &[T]) -> Result<usize, String> {
    let (pattern, text) = sorted(a, b)?;
    if pattern.is_empty() {
        return Ok(text.len());
    }
    let places = Places::new(pattern);
    let (mut plus, mut minus) = (vec![u64::MAX; places.blocks], vec![0u64; places.blocks]);
    let last = 1u64 << ((pattern.len() - 1) % WORD);
    let nowhere = vec![0u64; places.blocks];
    let mut distance = pattern.len();
    for symbol in text {
        let matches = places.get(symbol).unwrap_or(&nowhere);
        // What the row above hands down: its difference to the right is +1 at the top edge of the table.
        let (mut carry_plus, mut carry_minus) = (1u64, 0u64);
        for block in 0..places.blocks {
            let (vp, vn, m) = (plus[block], minus[block], matches[block] | carry_minus);
            let d0 = (((m & vp).wrapping_add(vp)) ^ vp) | m | vn;
            let hp = vn | !(d0 | vp);
            let hn = vp & d0;
            if block + 1 == places.blocks {
                distance += usize::from(hp & last != 0);
                distance -= usize::from(hn & last != 0);
            }
            let (down_plus, down_minus) = (hp >> (WORD - 1), hn >> (WORD - 1));
            let (hp, hn) = (hp << 1 | carry_plus, hn << 1 | carry_minus);
            plus[block] = hn | !(d0 | hp);
            minus[block] = hp & d0;
            (carry_plus, carry_minus) = (down_plus, down_minus);
        }
    }
    Ok(distance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Both numbers by the textbook's table.
    fn table(a: &[u8], b: &[u8]) -> (usize, usize) {
        let mut edit: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
        let mut common = vec![vec![0; b.len() + 1]; a.len() + 1];
        for i in 1..=a.len() {
            edit.push(vec![i; b.len() + 1]);
            for j in 1..=b.len() {
                let same = a[i - 1] == b[j - 1];
                let replaced = edit[i - 1][j - 1] + usize::from(!same);
                edit[i][j] = replaced.min(edit[i - 1][j] + 1).min(edit[i][j - 1] + 1);
                common[i][j] =
                    if same { common[i - 1][j - 1] + 1 } else { common[i - 1][j].max(common[i][j - 1]) };
            }
        }
        (edit[a.len()][b.len()], common[a.len()][b.len()])
    }

    #[test]
    fn both_agree_with_the_table_over_any_number_of_blocks() {
        let mut random = Random::new(5);
        for lengths in [(0, 0), (0, 9), (1, 1), (63, 64), (64, 64), (65, 200), (130, 129), (300, 257)] {
            for letters in [1, 2, 4, 26] {
                let mut text = |n: usize| (0..n).map(|_| random.below(letters) as u8).collect::<Vec<_>>();
                let (a, b) = (text(lengths.0), text(lengths.1));
                let found = (edit_distance(&a, &b).unwrap(), common_subsequence(&a, &b).unwrap());
                assert_eq!(found, table(&a, &b), "{lengths:?} of {letters} letters");
            }
        }
    }

    #[test]
    fn what_is_too_long_gets_a_reason() {
        let long = vec![0u8; 200_000];
        assert!(edit_distance(&long, &long).unwrap_err().contains("200000 and 200000"));
        assert!(common_subsequence(&long, &long).is_err());
    }
}
