//! Many tests at once: Holm's correction, which keeps the chance of any wrong claim among them at 5 %.

/// Holm's correction: each p as if all of them had been tested together. Same order as given.
/// Source: S. Holm, "A simple sequentially rejective multiple test procedure", 1979.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut least: f64 = 0.0;
    for (rank, &index) in order.iter().enumerate() {
        least = least.max((p[index] * (p.len() - rank) as f64).min(1.0));
        adjusted[index] = least;
    }
    adjusted
}
