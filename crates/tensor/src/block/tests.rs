//! Factors and panels in both formats.

use super::*;
use crate::matmul::{Into, MatMut, Threads, matmul};
use crate::pool::{Pool, Team};
use underdog_testkit::{hashed_values, relative_error};

/// Two terms, a column offset, an outer product of the result with a block of rows: what a layer does.
#[test]
fn products_and_outer_products_follow_the_f32_reference_in_every_format() {
    let formats = [Format::F32, Format::Bf16];
    for format in formats {
        let tolerance = if format == Format::F32 { 1e-6 } else { 1e-2 };
        for (m, k, n, r) in [(70, 96, 160, 3), (33, 64, 64, 16), (1, 40, 32, 8), (40, 64, 96, 72)] {
            let (x, w) = (hashed_values(5, 0, m * k, 1.0), hashed_values(5, 1, n * k, 1.0));
            let (low, b) = (hashed_values(5, 2, m * r, 1.0), hashed_values(5, 3, r * n, 1.0));
            let mut want = vec![0.0; m * n];
            let mut add = |factor, a, b| {
                matmul(MatMut::new(&mut want, m, n), Into::Add, factor, a, b, Threads::One);
            };
            add(1.0, Mat::new(&x, m, k), Mat::new(&w, n, k).t());
            add(2.0, Mat::new(&low, m, r), Mat::new(&b, r, n));
            let (mut rows, mut lows) = (Rows::new(format), Rows::new(format));
            rows.reset(m, k);
            lows.reset(m, r);
            (0..m).for_each(|i| rows.put(i, 0, &x[i * k..][..k]));
            (0..m).for_each(|i| lows.put(i, 0, &low[i * r..][..r]));
            let weight = Right::of_transposed(format, w, k, n, 1.0);
            let pair = Right::plain(format, &b, r, n, 2.0);
            let column = if n > 64 { 32 } else { 0 };
            let pool = Pool::new(2);
            for team in [Team::One, Team::All(&pool)] {
                let mut y = Panels::default();
                y.reset(format, m, n - column);
                y.product(Into::Set, column, &[(&rows, weight.factor()), (&lows, pair.factor())], team);
                let mut got = vec![0.0; m * (n - column)];
                got.chunks_exact_mut(n - column).enumerate().for_each(|(i, row)| y.copy_row(i, row));
                let want: Vec<f32> = want.chunks_exact(n).flat_map(|row| &row[column..]).copied().collect();
                let error = relative_error(&got, &want);
                assert!(error < tolerance, "{format:?} {m} {k} {n}: {error}");
                outer(format, &y, &got, (&low, r), tolerance);
            }
        }
    }
}

/// `lowᵀ · y` by blocks against the reference.
fn outer(format: Format, y: &Panels, plain: &[f32], (low, r): (&[f32], usize), tolerance: f64) {
    let (m, n) = y.shape();
    let mut want = vec![0.0; r * n];
    let (a, b) = (Mat::new(low, m, r).t(), Mat::new(plain, m, n));
    matmul(MatMut::new(&mut want, r, n), Into::Set, 1.0, a, b, Threads::One);
    let mut panels = Panels::default();
    panels.reset(format, m, r);
    (0..m).for_each(|i| panels.set_row(i, &low[i * r..][..r]));
    let (mut left, mut right) = (Rows::new(format), Right::new(format));
    left.load_transposed(&panels);
    right.reset(m, n);
    right.put_panels(0, y);
    let mut c = Panels::default();
    c.reset(format, r, n);
    c.product(Into::Set, 0, &[(&left, right.factor())], Team::One);
    let mut got = vec![0.0; r * n];
    got.chunks_exact_mut(n).enumerate().for_each(|(i, row)| c.copy_row(i, row));
    let error = relative_error(&got, &want);
    assert!(error < tolerance, "{format:?} outer {m} {n} {r}: {error}");
}
