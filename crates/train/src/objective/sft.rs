//! Supervised fine-tuning: the mean negative log-likelihood of the completion tokens of a step.
//!
//! The mean is over the tokens of the whole step, not of a row or of a micro-batch, so any split of the step into
//! micro-batches gives the same gradient (with dropout 0: masks differ between splits).

/// Part of a step's loss: `−Σ log_prob / tokens`, with `tokens` the completion tokens of the whole step. In nats.
pub fn loss(log_probs: impl Iterator<Item = f32>, tokens: usize) -> f64 {
    -log_probs.map(f64::from).sum::<f64>() / tokens as f64
}

/// ∂loss/∂log_prob, the same for every target.
pub fn derivative(tokens: usize) -> f32 {
    (-1.0 / tokens as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_step_add_up() {
        let all = [-1.0f32, -2.0, -0.5, -4.0];
        let whole = loss(all.into_iter(), 4);
        assert_eq!(whole, 1.875);
        assert_eq!(loss(all[..1].iter().copied(), 4) + loss(all[1..].iter().copied(), 4), whole);
        assert_eq!(derivative(4), -0.25);
    }
}
