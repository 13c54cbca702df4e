//! Scalar and row functions that the kernels share: an exponential the compiler can vectorise, and reductions with a
//! fixed order of summation.

/// Lanes of a reduction. The order of summation depends on this number only, never on the CPU.
pub const LANES: usize = 16;

/// `e^x` for finite `x` and −∞, within 2 units in the last place of the exact value; 0 below −87, +∞ never (clamped at 88).
///
/// Range reduction to |r| ≤ ln 2 / 2 with ln 2 in two parts, then a polynomial of degree 6 (the Taylor series with its last
/// terms economised, as in the Cephes library), then the power of two through the exponent bits.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it leaves the nearest integer in the low mantissa bits
    let clamped = x.clamp(-87.3, 88.0);
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = clamped - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let value = p * r * r + r + 1.0;
    // n is a whole number in −126..=127, so the exponent bits stay in range. It is taken from the bits, since a cast would look
    // at every lane for values that no integer has.
    let whole = rounded.to_bits().wrapping_sub(ROUND.to_bits());
    let scale = f32::from_bits(whole.wrapping_add(127) << 23);
    if x < -87.3 { 0.0 } else { value * scale }
}

/// `tanh x`, through [`exp`]; within 3 units in the last place away from 0, absolute error ≤ 1e-7 near 0.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let e = exp((2.0 * x).clamp(-30.0, 30.0));
    (e - 1.0) / (e + 1.0)
}

#[inline(always)]
fn fold(lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    let mut lanes = lanes;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Σ f(values) over the values that stand at the same place of rows of equal length, in [`LANES`] partial sums that are folded in
/// halves. Rows instead of an index: with one, every lane's bounds would be looked at, and the sum would not become vector
/// instructions.
#[inline(always)]
pub fn sum_over<const N: usize>(rows: [&[f32]; N], f: impl Fn([f32; N]) -> f32) -> f32 {
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "sum_over: lengths differ");
    let mut lanes = [0.0f32; LANES];
    let parts = rows.map(|row| row.as_chunks::<LANES>());
    for i in 0..parts[0].0.len() {
        let chunks = parts.map(|(whole, _)| &whole[i]);
        for lane in 0..LANES {
            lanes[lane] += f(chunks.map(|chunk| chunk[lane]));
        }
    }
    let mut sum = fold(lanes);
    for i in 0..parts[0].1.len() {
        sum += f(parts.map(|(_, rest)| rest[i]));
    }
    sum
}

/// Σ a·b over two slices of equal length.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum_over([a, b], |[a, b]| a * b)
}

/// The largest value; −∞ for an empty slice.
#[inline(always)]
pub fn max(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = if chunk[lane] > lanes[lane] { chunk[lane] } else { lanes[lane] };
        }
    }
    // Halves of the lanes, since sixteen comparisons one after the other would take longer than a short row.
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = if lanes[i + width] > lanes[i] { lanes[i + width] } else { lanes[i] };
        }
        width /= 2;
    }
    rest.iter().fold(lanes[0], |m, &x| if x > m { x } else { m })
}

/// The body of [`exp_row`], to be inlined into other dispatched functions.
#[inline(always)]
pub(crate) fn exp_row_inline(row: &mut [f32]) -> (f32, f32) {
    let top = max(row);
    if top == f32::NEG_INFINITY {
        row.fill(0.0);
        return (top, 0.0);
    }
    let mut lanes = [0.0f32; LANES];
    let mut chunks = row.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            let e = exp(chunk[lane] - top);
            chunk[lane] = e;
            lanes[lane] += e;
        }
    }
    let mut sum = fold(lanes);
    for x in chunks.into_remainder() {
        *x = exp(*x - top);
        sum += *x;
    }
    (top, sum)
}

crate::dispatched! {
    /// Replaces `row[i]` by `e^(row[i] − max)` and returns `(max, Σ)`. A row of −∞ only becomes zeros with Σ = 0.
    pub fn exp_row / exp_row_on (row: &mut [f32]) -> (f32, f32) {
        exp_row_inline(row)
    }
}

crate::dispatched! {
    /// `(max, ln Σ e^(x − max))` of a row, without changing it.
    pub fn log_sum_exp / log_sum_exp_on (row: &[f32]) -> (f32, f32) {
        let top = max(row);
        if top == f32::NEG_INFINITY {
            return (top, f32::NEG_INFINITY);
        }
        (top, sum_over([row], |[x]| exp(x - top)).ln())
    }
}

crate::dispatched! {
    /// `to[i] += factor · from[i]`.
    pub fn add_scaled / add_scaled_on (to: &mut [f32], factor: f32, from: &[f32]) {
        assert_eq!(to.len(), from.len(), "add_scaled: lengths differ");
        for i in 0..to.len() {
            to[i] += factor * from[i];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for i in -870_000..=880_000 {
            let x = i as f32 * 1e-4;
            let want = (x as f64).exp();
            let error = ((exp(x) as f64 - want) / want).abs();
            assert!(error < 2.5e-7, "exp({x}) = {} but {want}", exp(x));
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn tanh_follows_the_library() {
        for i in -2000..=2000 {
            let x = i as f32 * 1e-2;
            assert!((tanh(x) - x.tanh()).abs() < 3e-7, "tanh({x})");
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_softmax() {
        let row: Vec<f32> = (0..1003).map(|i| ((i * 7919) % 101) as f32 * 0.13 - 6.0).collect();
        let mut want = row.clone();
        let (top, sum) = exp_row_on(Isa::Portable, &mut want);
        let exact: f64 = row.iter().map(|&x| ((x - top) as f64).exp()).sum();
        assert!((sum as f64 / exact - 1.0).abs() < 1e-6);
        for isa in [Isa::Avx2, Isa::Avx512] {
            let mut got = row.clone();
            assert_eq!(exp_row_on(isa, &mut got), (top, sum), "{isa:?}");
            assert_eq!(got, want, "{isa:?}");
        }
    }

    #[test]
    fn a_fully_masked_row_has_no_weight() {
        let mut row = [f32::NEG_INFINITY; 3];
        assert_eq!(exp_row(&mut row), (f32::NEG_INFINITY, 0.0));
        assert_eq!(row, [0.0; 3]);
    }
}
