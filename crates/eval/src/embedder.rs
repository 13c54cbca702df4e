//! What turns texts into vectors, for baselines, similar examples and the similarity of answers. The encoder of the
//! engine implements [`Embedder`]; this crate knows none.

use crate::Result;
use crate::model::Identity;
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
