//! AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) as PyTorch computes it, and clipping by the global norm.

use rayon::prelude::*;

/// β₁, β₂ and ε of Adam.
const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f32 = 1e-8;
const CHUNK: usize = 1 << 14;

/// Moments of the gradient, one pair a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamW {
    /// Running mean of the gradient.
    pub first: Vec<f32>,
    /// Running mean of its square.
    pub second: Vec<f32>,
    /// Steps taken.
    pub steps: usize,
}

impl AdamW {
    /// For `parameters` values.
    pub fn new(parameters: usize) -> Self {
        AdamW { first: vec![0.0; parameters], second: vec![0.0; parameters], steps: 0 }
    }

    /// One step on `values` along `gradients`, with decoupled weight decay.
    pub fn step(&mut self, values: &mut [f32], gradients: &[f32], lr: f64, weight_decay: f64) {
        assert!(values.len() == gradients.len() && values.len() == self.first.len());
        self.steps += 1;
        let correction_1 = 1.0 - BETA_1.powi(self.steps as i32);
        let correction_2 = (1.0 - BETA_2.powi(self.steps as i32)).sqrt();
        let (rate, root) = ((lr / correction_1) as f32, correction_2 as f32);
        let (b1, b2) = (BETA_1 as f32, BETA_2 as f32);
        let (c1, c2) = ((1.0 - BETA_1) as f32, (1.0 - BETA_2) as f32);
        let decay = (1.0 - lr * weight_decay) as f32;
        let chunks = values
            .par_chunks_mut(CHUNK)
            .zip(self.first.par_chunks_mut(CHUNK))
            .zip(self.second.par_chunks_mut(CHUNK))
            .zip(gradients.par_chunks(CHUNK));
        chunks.for_each(|(((values, first), second), gradients)| {
            for i in 0..values.len() {
                let g = gradients[i];
                first[i] = b1 * first[i] + c1 * g;
                second[i] = b2 * second[i] + c2 * g * g;
                values[i] = values[i] * decay - rate * first[i] / (second[i].sqrt() / root + EPSILON);
            }
        });
    }
}

/// Scales `gradients` down to `largest` where their norm is larger (0: never), and gives the norm before that.
/// The sum is over chunks of a fixed size in a fixed order, in f64.
pub fn clip(gradients: &mut [f32], largest: f64) -> f64 {
    let parts: Vec<f64> =
        gradients.par_chunks(CHUNK).map(|c| c.iter().map(|&g| g as f64 * g as f64).sum::<f64>()).collect();
    let norm = parts.into_iter().sum::<f64>().sqrt();
    if largest > 0.0 && norm > largest {
        // PyTorch adds 1e-6 to the norm here.
        let factor = (largest / (norm + 1e-6)) as f32;
        gradients.par_chunks_mut(CHUNK).for_each(|c| c.iter_mut().for_each(|g| *g *= factor));
    }
    norm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_moves_by_the_learning_rate_and_the_decay() {
        let mut values = vec![1.0, 1.0, 0.0];
        AdamW::new(3).step(&mut values, &[0.5, -3.0, 0.0], 0.1, 0.01);
        // m/√v is the sign of the gradient after one step.
        for (got, want) in values.iter().zip([1.0 * 0.999 - 0.1, 1.0 * 0.999 + 0.1, 0.0]) {
            assert!((got - want).abs() < 1e-6, "{got} but {want}");
        }
    }

    #[test]
    fn clipping_keeps_the_direction_and_reports_the_norm() {
        let mut gradients = vec![3.0, 4.0];
        assert_eq!(clip(&mut gradients, 1.0), 5.0);
        assert!((gradients[0] - 0.6).abs() < 1e-6 && (gradients[1] - 0.8).abs() < 1e-6);
        let mut small = vec![0.3, 0.4];
        clip(&mut small, 1.0);
        assert_eq!(small, [0.3, 0.4]);
        let mut free = vec![3.0, 4.0];
        clip(&mut free, 0.0);
        assert_eq!(free, [3.0, 4.0]);
    }
}
