//! What turns texts into vectors, for baselines, similar examples and the similarity of answers. The encoder of the
//! engine implements [`Embedder`]; this crate knows none.

use crate::Result;
use crate::model::Identity;
use rayon::prelude::*;
use std::sync::{Arc, Mutex};

/// Texts to vectors.
pub trait Embedder {
    /// Who this is.
    fn identity(&self) -> Identity;

    /// One vector of length 1 a text, in the order of `texts`, all of the same dimension: their scalar product is the
    /// cosine similarity, −1 to 1.
    ///
    /// # Errors
    /// When a text cannot be embedded.
    fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>>;
}

/// An embedder that several users take turns with.
pub type SharedEmbedder = Arc<Mutex<dyn Embedder + Send>>;

/// Embeds with a shared embedder. One that panicked in another thread is used all the same: it keeps nothing from one
/// call to the next.
///
/// # Errors
/// As [`Embedder::embed`].
pub fn embed(embedder: &SharedEmbedder, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
    embedder.lock().unwrap_or_else(std::sync::PoisonError::into_inner).embed(texts)
}

/// Who a shared embedder is.
pub fn identity(embedder: &SharedEmbedder) -> Identity {
    embedder.lock().unwrap_or_else(std::sync::PoisonError::into_inner).identity()
}

/// The cosine similarity of two vectors of length 1: their scalar product, summed in f64, clipped to −1 … 1.
///
/// # Panics
/// When their lengths differ.
pub fn similarity(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "vectors of one embedder have one dimension");
    let product: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    product.clamp(-1.0, 1.0)
}

/// The `k` rows of `known` that are most similar to each of `queries`, the most similar first, of equal ones the first.
pub fn most_similar(known: &[Vec<f32>], queries: &[Vec<f32>], k: usize) -> Vec<Vec<usize>> {
    let k = k.min(known.len());
    let of_query = |query: &Vec<f32>| {
        let mut best: Vec<(f32, usize)> = Vec::with_capacity(k + 1);
        for (row, vector) in known.iter().enumerate() {
            let value = product(query, vector);
            // A later row must be better to come before an earlier one.
            let place = best.partition_point(|(other, _)| *other >= value);
            if place < k {
                best.insert(place, (value, row));
                best.truncate(k);
            }
        }
        best.into_iter().map(|(_, row)| row).collect()
    };
    queries.par_iter().map(of_query).collect()
}

/// The scalar product in f32, in eight sums that are added up in a fixed order: fast enough to compare with every row.
fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a8.zip(b8) {
        (0..8).for_each(|lane| sums[lane] += a[lane] * b[lane]);
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_similar_come_first_and_the_first_of_equals() {
        let known = vec![vec![1.0, 0.0], vec![0.0, 1.0], vec![0.6, 0.8], vec![1.0, 0.0]];
        let found = most_similar(&known, &[vec![1.0, 0.0], vec![0.0, 1.0]], 3);
        assert_eq!(found, [vec![0, 3, 2], vec![1, 2, 0]]);
        assert_eq!(most_similar(&known, &[vec![0.0, -1.0]], 9)[0].len(), 4);
        assert_eq!(most_similar(&[], &[vec![1.0]], 2), [Vec::<usize>::new()]);
    }

    #[test]
    fn similarity_is_the_cosine_and_never_leaves_its_range() {
        assert_eq!(similarity(&[0.6, 0.8], &[1.0, 0.0]), f64::from(0.6f32));
        assert_eq!(similarity(&[1.0, 1.0], &[1.0, 1.0]), 1.0);
        let long: Vec<f32> = (0..19).map(|i| i as f32).collect();
        assert_eq!(product(&long, &long), 2109.0);
    }
}
