//! Gradients against central differences in f64.

/// Asserts that `got` is the gradient of `f` at `at`: every value within 1e-5 of the largest derivative.
/// `f` is evaluated in f64, so the difference quotient is exact to about 1e-8.
pub fn assert_gradient(name: &str, got: &[f32], at: &[f32], f: impl Fn(&[f64]) -> f64) {
    assert_eq!(got.len(), at.len(), "{name}: lengths");
    const STEP: f64 = 1e-4;
    let mut x: Vec<f64> = at.iter().map(|&v| v as f64).collect();
    let want: Vec<f64> = (0..x.len())
        .map(|i| {
            let middle = x[i];
            x[i] = middle + STEP;
            let above = f(&x);
            x[i] = middle - STEP;
            let below = f(&x);
            x[i] = middle;
            (above - below) / (2.0 * STEP)
        })
        .collect();
    let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    assert!(largest > 0.0, "{name}: the gradient is zero everywhere, so nothing is tested");
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        assert!(
            (*got as f64 - want).abs() <= 1e-5 * largest,
            "{name}[{i}]: got {got}, want {want}, largest {largest}"
        );
    }
}
