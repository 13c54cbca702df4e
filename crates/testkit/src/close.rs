//! Comparing numbers with a reference, so that a failure names the tensor, the place and both values.

/// `‖got - want‖ / ‖want‖` in `f64`; `‖got‖` where `want` is all zeros. NaN when either holds a NaN.
///
/// # Panics
/// When the lengths differ.
pub fn relative_error(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len(), "{} numbers compared with {}", got.len(), want.len());
    let square = |x: f64| x * x;
    let difference: f64 = got.iter().zip(want).map(|(&g, &w)| square(f64::from(g) - f64::from(w))).sum();
    let norm: f64 = want.iter().map(|&w| square(f64::from(w))).sum();
    if norm == 0.0 { difference.sqrt() } else { (difference / norm).sqrt() }
}

/// Checks that [`relative_error`] of a whole tensor is at most `tolerance`.
///
/// # Panics
/// When it is not (a NaN or an infinity never passes), with `name`, the index that differs most and both
/// values there; also when the lengths differ, or when there is nothing to compare.
#[track_caller]
pub fn assert_close(name: &str, got: &[f32], want: &[f32], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{name}: {} numbers, expected {}", got.len(), want.len());
    assert!(!want.is_empty(), "{name}: nothing to compare");
    if let Some(at) = got.iter().zip(want).position(|(g, w)| !g.is_finite() || !w.is_finite()) {
        panic!("{name}[{at}]: got {}, expected {}: not finite", got[at], want[at]);
    }
    let error = relative_error(got, want);
    if error <= tolerance {
        return;
    }
    let distance = |i: usize| (f64::from(got[i]) - f64::from(want[i])).abs();
    let worst = (0..got.len()).max_by(|&i, &j| distance(i).total_cmp(&distance(j))).unwrap_or(0);
    panic!(
        "{name}: relative error {error:.3e}, at most {tolerance:.1e} allowed; worst of {} is [{worst}]: got {}, expected {}",
        got.len(),
        got[worst],
        want[worst],
    );
}

/// The numbers of a JSON array, nested arrays laid end to end, as `f32`.
///
/// # Panics
/// When anything in it is neither a number nor an array.
pub fn numbers(value: &serde_json::Value) -> Vec<f32> {
    match value {
        serde_json::Value::Array(items) => items.iter().flat_map(numbers).collect(),
        serde_json::Value::Number(number) => vec![number.as_f64().map_or(f32::NAN, |x| x as f32)],
        other => panic!("expected numbers, found {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_and_near_pass() {
        assert_close("x", &[1.0, -2.0], &[1.0, -2.0], 0.0);
        assert_close("x", &[1.0, -2.0], &[1.000_01, -2.0], 1e-5);
        assert_close("zeros", &[0.0, 0.0], &[0.0, 0.0], 0.0);
    }

    #[test]
    fn relative_error_is_over_the_reference() {
        let error = relative_error(&[3.0, 0.0], &[0.0, 4.0]);
        assert!((error - 1.25).abs() < 1e-12, "{error}");
        assert_eq!(relative_error(&[3.0, 4.0], &[0.0, 0.0]), 5.0);
    }

    #[test]
    #[should_panic(
        expected = "dk: relative error 4.472e-1, at most 1.0e-5 allowed; worst of 2 is [1]: got 1, expected 2"
    )]
    fn a_difference_is_named() {
        assert_close("dk", &[1.0, 1.0], &[1.0, 2.0], 1e-5);
    }

    #[test]
    #[should_panic(expected = "dv[1]: got NaN")]
    fn nan_never_passes() {
        assert_close("dv", &[1.0, f32::NAN], &[1.0, 2.0], 1e9);
    }

    #[test]
    #[should_panic(expected = "x[0]: got inf, expected inf")]
    fn equal_infinities_do_not_pass() {
        assert_close("x", &[f32::INFINITY], &[f32::INFINITY], 1e9);
    }

    #[test]
    #[should_panic(expected = "x: 1 numbers, expected 2")]
    fn lengths_are_compared() {
        assert_close("x", &[1.0], &[1.0, 2.0], 1.0);
    }

    #[test]
    #[should_panic(expected = "x: nothing to compare")]
    fn nothing_is_not_a_pass() {
        assert_close("x", &[], &[], 1.0);
    }

    #[test]
    fn numbers_are_flattened() {
        assert_eq!(numbers(&serde_json::json!([[1, 2.5], [-3e-1]])), vec![1.0, 2.5, -0.3]);
    }

    #[test]
    #[should_panic(expected = "expected numbers, found null")]
    fn a_missing_number_is_not_a_number() {
        numbers(&serde_json::json!([1.0, null]));
    }
}
