//! A part of the rows: `--limit N` is a seeded random sample, because the first N rows of a file are seldom like the
//! rest (files are sorted by date, label or source).

use crate::random::Random;
use crate::{Error, Kind, Result};

/// `limit` of the items, each subset equally likely, in their old order; all of them when there are no more.
///
/// # Errors
/// When `limit` is 0: a measurement on nothing is not one.
pub fn random_subset<T>(items: Vec<T>, limit: usize, seed: u64) -> Result<Vec<T>> {
    if limit == 0 {
        return Err(Error::new(Kind::Usage, "the limit leaves no samples").expected("1 or more").found("0"));
    }
    if limit >= items.len() {
        return Ok(items);
    }
    let mut order: Vec<usize> = (0..items.len()).collect();
    Random::new(seed).shuffle(&mut order);
    let mut keep = vec![false; items.len()];
    order[..limit].iter().for_each(|&index| keep[index] = true);
    Ok(items.into_iter().zip(keep).filter_map(|(item, keep)| keep.then_some(item)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subset_is_seeded_ordered_and_not_the_first_rows() {
        let items: Vec<usize> = (0..1000).collect();
        let subset = random_subset(items.clone(), 50, 7).unwrap();
        assert_eq!(subset.len(), 50);
        assert!(subset.is_sorted());
        assert!(subset[49] > 800 && subset[0] < 200, "spread over the file: {subset:?}");
        assert_eq!(subset, random_subset(items.clone(), 50, 7).unwrap());
        assert_ne!(subset, random_subset(items.clone(), 50, 8).unwrap());
        assert_eq!(random_subset(items.clone(), 2000, 7).unwrap(), items);
        assert!(random_subset(items, 0, 7).is_err());
    }
}
