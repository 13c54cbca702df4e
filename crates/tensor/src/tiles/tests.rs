//! The tile products against the f32 products of rounded factors, and factors put piece by piece against those packed at once.

use super::factor::{DEPTH, transpose_tiles, transpose_tiles_plain};
use super::*;
use crate::bf16::{round, widen};
use crate::matmul::{self, MatMut, Threads};
use underdog_testkit::{hashed_values, relative_error};

/// All that this machine can multiply tiles with.
fn units() -> Vec<(String, Unit)> {
    let sets = [Isa::Portable, Isa::Avx2, Isa::Avx512];
    let mut units: Vec<_> = sets.map(|isa| (format!("{isa:?}"), Unit::Vectors(isa))).into();
    if amx_available() {
        units.push(("AMX".into(), Unit::Registers(Session::begin())));
    } else {
        println!("this machine has no AMX: the tile registers are not run here");
    }
    units
}

fn rounded(x: &[f32]) -> Vec<f32> {
    x.iter().map(|&v| widen(round(v))).collect()
}

const SHAPES: [(usize, usize, usize); 8] = [
    (1, 32, 32),
    (1, 70, 33),
    (31, 40, 64),
    (33, 49, 95),
    (64, 64, 576),
    (150, 192, 100),
    (200, 65, 31),
    (48, 16, 40),
];

#[test]
fn tiles_give_the_f32_product_of_rounded_factors() {
    for (m, n, k) in SHAPES {
        let (a, b) = (hashed_values(1, 0, m * k, 2.0), hashed_values(1, 1, k * n, 2.0));
        let (ra, rb) = (rounded(&a), rounded(&b));
        let packed = Packed::pack(Mat::new(&b, k, n));
        let transposed: Vec<f32> = (0..n * k).map(|i| b[(i % k) * n + i / k]).collect();
        let from_transposed = Packed::pack(Mat::new(&transposed, n, k).t());
        assert_eq!(packed.data[..], from_transposed.data[..]);
        let mut back = Packed::default();
        for threads in [Threads::One, Threads::All] {
            packed.transpose_into(0..n, &mut back, threads);
            assert_eq!(Packed::pack(Mat::new(&transposed, n, k)).data[..], back.data[..], "{m} × {n} × {k}");
        }
        if n > 32 {
            packed.transpose_into(32..n, &mut back, Threads::One);
            let part = Mat::new(&transposed[32 * k..], n - 32, k);
            assert_eq!(Packed::pack(part).data[..], back.data[..], "{m} × {n} × {k}, some columns");
        }
        for into in [Into::Set, Into::Add] {
            let mut want = vec![0.5; m * n];
            let factors = (Mat::new(&ra, m, k), Mat::new(&rb, k, n));
            matmul::matmul(MatMut::new(&mut want, m, n), into, 1.0, factors.0, factors.1, Threads::One);
            let mut got = vec![0.5; m * n];
            matmul(&mut got, into, Mat::new(&a, m, k), &packed);
            let error = relative_error(&got, &want);
            assert!(error < 1e-6, "{m} × {n} × {k} {into:?}: {error}");
        }
    }
}

#[test]
fn factors_put_row_by_row_are_those_packed_at_once() {
    for (_, n, k) in SHAPES {
        let b = hashed_values(2, 0, k * n, 2.0);
        // What an earlier use left behind must not shine through.
        let (mut packed, mut left) = (Packed::default(), Left::default());
        packed.reset(300, 300);
        packed.data.fill(9);
        packed.reset(k, n);
        let zeros = vec![0.0; n];
        for i in (0..k).step_by(2) {
            let second = if i + 1 < k { &b[(i + 1) * n..][..n] } else { &zeros[..] };
            packed.put_pair(i, 0, &b[i * n..][..n], second);
        }
        assert_eq!(packed.data[..], Packed::pack(Mat::new(&b, k, n)).data[..], "{k} × {n}");
        left.reset(n, k);
        b.chunks_exact(n).enumerate().for_each(|(i, row)| left.put_column(i, 0, row));
        let transposed: Vec<f32> = (0..n * k).map(|i| b[(i % k) * n + i / k]).collect();
        let mut plain = Left::default();
        plain.load(Mat::new(&transposed, n, k));
        let row = |left: &Left, i: usize, j: usize| {
            left.data[(i / 16 * left.depth() + j / DEPTH) * TILE + i % 16 * DEPTH + j % DEPTH]
        };
        for (i, j) in (0..n).flat_map(|i| (0..k).map(move |j| (i, j))) {
            assert_eq!(row(&left, i, j), row(&plain, i, j), "{i} {j}");
        }
    }
}

#[test]
fn the_sum_of_terms_is_the_sum_of_their_products() {
    let (m, n) = (40, 48);
    let (mut want, mut lefts, mut rights) = (vec![0.0; m * n], Vec::new(), Vec::new());
    for (i, k) in [64, 16, 33].into_iter().enumerate() {
        let (a, b) = (hashed_values(3, i as u64, m * k, 2.0), hashed_values(4, i as u64, k * n, 2.0));
        let (ra, rb) = (rounded(&a), rounded(&b));
        let (left, right) = (Mat::new(&ra, m, k), Mat::new(&rb, k, n));
        matmul::matmul(MatMut::new(&mut want, m, n), Into::Add, 1.0, left, right, Threads::One);
        let mut left = Left::default();
        left.load(Mat::new(&a, m, k));
        lefts.push(left);
        rights.push(Packed::pack(Mat::new(&b, k, n)));
    }
    let terms: Vec<_> = lefts.iter().zip(&rights).collect();
    for (name, unit) in units() {
        for (into, before) in [(Into::Set, 0.0), (Into::Add, 2.5)] {
            for column in [0, 32] {
                let mut c = vec![2.5; 64 * 32];
                panel_on(&unit, &mut c, 32, into, column, &terms);
                for (i, j) in (0..m).flat_map(|i| (column..n.min(column + 32)).map(move |j| (i, j))) {
                    let (got, want) = (c[i * 32 + j % 32], want[i * n + j] + before);
                    assert!((got - want).abs() < 1e-4, "{name} {into:?} {i} {j}: {got} but {want}");
                }
            }
        }
    }
}

#[test]
fn few_rows_leave_other_rows_alone() {
    let (k, n) = (64, 16);
    let mut left = Left::default();
    left.load(Mat::new(&hashed_values(5, 0, 8 * k, 1.0), 8, k));
    let right = Packed::pack(Mat::new(&hashed_values(5, 1, k * n, 1.0), k, n));
    for (name, unit) in units() {
        let rows_of_a_unit = if matches!(unit, Unit::Registers(_)) { 16 } else { 8 };
        let mut c = vec![7.0; 32 * 32];
        panel_on(&unit, &mut c, 32, Into::Set, 0, &[(&left, &right)]);
        assert!(c[..8 * 32].chunks(32).all(|row| row[..16].iter().all(|v| *v != 7.0)), "{name}");
        assert!(c.chunks(32).all(|row| row[16..].iter().all(|v| *v == 7.0)), "{name}: columns past the end");
        assert!(c[rows_of_a_unit * 32..].iter().all(|v| *v == 7.0), "{name}: rows past the end");
    }
}

#[test]
fn tiles_are_transposed_as_value_by_value() {
    let tile = |first: u16| std::array::from_fn::<u16, TILE, _>(|i| first + i as u16);
    let from = [tile(0), tile(TILE as u16)];
    let (mut a, mut b, mut c, mut d) = ([0; TILE], [0; TILE], [0; TILE], [0; TILE]);
    transpose_tiles([&mut a, &mut b], [&from[0], &from[1]]);
    transpose_tiles_plain([&mut c, &mut d], [&from[0], &from[1]]);
    assert_eq!((a, b), (c, d));
    // Row 3, column 18 of the one is row 18, column 3 of the other.
    let place = |row: usize, column: usize| row / 2 * 32 + column * 2 + row % 2;
    assert_eq!(a[place(18, 3)], from[1][place(3, 2)]);
}

#[test]
fn the_best_column_is_that_of_the_whole_product() {
    for (m, k, n) in [(1, 64, 700), (37, 96, 1500), (3, 40, 5)] {
        let (x, w) = (hashed_values(9, 0, m * k, 1.0), hashed_values(9, 1, n * k, 1.0));
        let packed = Packed::pack(Mat::new(&w, n, k).t());
        let mut all = vec![0.0; m * n];
        matmul(&mut all, Into::Set, Mat::new(&x, m, k), &packed);
        let want: Vec<u32> = all.chunks_exact(n).map(|row| argmax(row) as u32).collect();
        assert_eq!(best(Mat::new(&x, m, k), &packed), want);
        // Columns of equal values: the first one.
        let same = Packed::pack(Mat::new(&vec![0.5; n * k], n, k).t());
        assert_eq!(best(Mat::new(&x, m, k), &same), vec![0; m]);
    }
}
