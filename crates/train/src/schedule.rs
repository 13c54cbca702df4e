//! The learning rate: linear warm-up, then a half cosine down to 0 (Loshchilov and Hutter 2017, arXiv 1608.03983).

/// The learning rate of step `step` (from 0) of `steps`, with the first `warmup` share of them rising linearly. The first
/// step already learns, and the last one still does.
pub fn learning_rate(peak: f64, warmup: f64, step: usize, steps: usize) -> f64 {
    let rising = (warmup * steps as f64).ceil() as usize;
    if step < rising {
        return peak * (step + 1) as f64 / rising as f64;
    }
    let progress = (step - rising) as f64 / (steps - rising) as f64;
    peak * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_linearly_and_falls_along_a_cosine() {
        let rates: Vec<f64> = (0..20).map(|s| learning_rate(2.0, 0.2, s, 20)).collect();
        assert_eq!(rates[..5], [0.5, 1.0, 1.5, 2.0, 2.0]);
        assert!((rates[12] - 1.0).abs() < 1e-12, "half way down at the middle of the fall");
        assert!(rates[19] > 0.0 && rates[19] < 0.03);
        assert_eq!(learning_rate(1.0, 0.0, 0, 1), 1.0);
        assert_eq!(learning_rate(1.0, 1.0, 3, 4), 1.0);
    }
}
