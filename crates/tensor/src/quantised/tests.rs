//! Every path against the f32 product of the dequantised weights, within the bound that the module states; and what the
//! blocks mean against the formats' definitions, which `underdog-model` tests against the reference implementation.

use super::*;
use crate::cpu::Level;
use crate::matmul::{Into, Mat, MatMut, Threads, matmul};
use crate::pool::Pool;
use crate::tiles::{self, Packed};
use underdog_testkit::{hashed_values, relative_error};

const FORMATS: [Format; 8] = [
    Format::Q4_0,
    Format::Q4_1,
    Format::Q5_0,
    Format::Q5_1,
    Format::Q8_0,
    Format::Q4_K,
    Format::Q5_K,
    Format::Q6_K,
];

/// Blocks of hashed bytes with scales of an ordinary size.
fn blocks(format: Format, rows: usize, columns: usize) -> Vec<u8> {
    let (size, bytes) = format.block();
    let count = rows * columns / size;
    let mut data: Vec<u8> = hashed_values(7, format as u64, count * bytes, 1.0)
        .iter()
        .map(|v| ((v + 0.5) * 255.9) as u8)
        .collect();
    for (i, block) in data.chunks_exact_mut(bytes).enumerate() {
        let scale = half::f16::from_f32(0.001 + (i % 13) as f32 * 0.003).to_le_bytes();
        let least = half::f16::from_f32(-0.02 + (i % 7) as f32 * 0.004).to_le_bytes();
        let at = if format == Format::Q6_K { 208 } else { 0 };
        block[at..at + 2].copy_from_slice(&scale);
        if matches!(format.scales(), Scales::Least | Scales::Super) {
            block[2..4].copy_from_slice(&least);
        }
    }
    data
}

#[test]
fn every_path_stays_within_the_stated_bound_of_the_f32_product() {
    let pools = [Pool::new(1), Pool::new(3)];
    for format in FORMATS {
        let columns = if format.block().0 == 256 { 512 } else { 96 };
        for (outputs, rows) in [(1, 1), (16, 4), (37, 7), (37, 29)] {
            let weight = Matrix::new(format, &blocks(format, outputs, columns), outputs, columns).unwrap();
            let mut plain = vec![0.0; outputs * columns];
            weight.rows(0..outputs, &mut plain);
            let x = hashed_values(8, rows as u64, rows * columns, 2.0);
            let rounded = Rounded::new(&x, columns);
            for path in [Path::Portable, Path::Avx2, Path::Avx512Vnni] {
                let mut answers = pools.each_ref().map(|pool| {
                    let mut y = vec![f32::NAN; rows * outputs];
                    products_on(
                        path,
                        Team::All(pool),
                        &rounded,
                        &mut [Product { weight: &weight, y: &mut y }],
                    );
                    y
                });
                assert_eq!(
                    answers[0], answers[1],
                    "{format:?} {path:?}: the number of threads changes nothing"
                );
                let y = std::mem::take(&mut answers[0]);
                for (i, row) in x.chunks_exact(columns).enumerate() {
                    for j in 0..outputs {
                        let w = &plain[j * columns..][..columns];
                        let want: f64 = w.iter().zip(row).map(|(&w, &x)| w as f64 * x as f64).sum();
                        let (mut bound, mut size) = (0.0f64, 0.0f64);
                        for (w, x) in w.chunks_exact(BLOCK).zip(row.chunks_exact(BLOCK)) {
                            let top = x.iter().fold(0.0f32, |a, x| a.max(x.abs())) as f64;
                            let sum: f64 = w.iter().map(|w| w.abs() as f64).sum();
                            bound += top / 254.0 * sum;
                            size += top * sum;
                        }
                        let error = (y[i * outputs + j] as f64 - want).abs();
                        assert!(
                            error <= bound * 1.001 + size * 1e-5,
                            "{format:?} {path:?} [{i}, {j}]: {error} > {bound}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn whole_numbers_are_exact_on_every_path() {
    // x of whole numbers up to 127 with one 127 a block has a scale of 1: nothing is rounded, so all paths agree with the
    // f32 product up to the rounding of its sums.
    let pool = Pool::new(2);
    for format in FORMATS {
        let (columns, outputs) = (256, 48);
        let weight = Matrix::new(format, &blocks(format, outputs, columns), outputs, columns).unwrap();
        let x: Vec<f32> =
            (0..columns).map(|i| if i % 32 == 3 { -127.0 } else { (i * 29 % 255) as f32 - 127.0 }).collect();
        let mut plain = vec![0.0; outputs * columns];
        weight.rows(0..outputs, &mut plain);
        for path in [Path::Portable, Path::Avx2, Path::Avx512Vnni] {
            let mut y = vec![0.0; outputs];
            products_on(
                path,
                Team::All(&pool),
                &Rounded::new(&x, columns),
                &mut [Product { weight: &weight, y: &mut y }],
            );
            for j in 0..outputs {
                let w = &plain[j * columns..][..columns];
                let want: f64 = w.iter().zip(&x).map(|(&w, &x)| w as f64 * x as f64).sum();
                let size: f64 = w.iter().zip(&x).map(|(&w, &x)| (w as f64 * x as f64).abs()).sum();
                assert!(
                    (y[j] as f64 - want).abs() <= 2e-5 * size,
                    "{format:?} {path:?} [{j}]: {} {want}",
                    y[j]
                );
            }
        }
    }
}

#[test]
fn sums_of_the_largest_products_do_not_overflow() {
    // Codes at both ends of what their bits hold, and x at ±127 with signs that make all products of an output add up: what sums
    // of 16 bits on the way could not take, if there were one too many of them.
    let rows = 20;
    for format in FORMATS {
        let columns = format.block().0;
        for (byte, sign) in [(0xff, 1.0), (0xff, -1.0), (0x00, 1.0), (0x00, -1.0)] {
            let (size, bytes) = format.block();
            let mut data = vec![byte; 16 * columns / size * bytes];
            for block in data.chunks_exact_mut(bytes) {
                let at = if format == Format::Q6_K { 208 } else { 0 };
                block[at..at + 2].copy_from_slice(&half::f16::ONE.to_le_bytes());
                if matches!(format.scales(), Scales::Least | Scales::Super) {
                    block[2..4].fill(0);
                }
                // The signed codes of Q8_0 reach from −128, which is 0 here, to 127.
                if format == Format::Q8_0 {
                    block[2..].fill(if byte == 0 { 0x80 } else { 0x7f });
                }
            }
            let weight = Matrix::new(format, &data, 16, columns).unwrap();
            let mut plain = vec![0.0; 16 * columns];
            weight.rows(0..16, &mut plain);
            let want: f64 = plain[..columns].iter().map(|&w| w as f64 * 127.0 * sign as f64).sum();
            let x = Rounded::new(&vec![127.0 * sign; rows * columns], columns);
            for path in [Path::Portable, Path::Avx2, Path::Avx512Vnni] {
                let mut y = vec![f32::NAN; rows * 16];
                products_on(path, Team::One, &x, &mut [Product { weight: &weight, y: &mut y }]);
                for y in y {
                    let error = (y as f64 - want).abs();
                    assert!(error <= want.abs() * 1e-5, "{format:?} {path:?}: {y}, want {want}");
                }
            }
        }
    }
}

#[test]
fn memory_is_about_that_of_the_file_and_parts_of_rows_can_be_had() {
    for format in FORMATS {
        let (rows, columns) = (64, 512);
        let data = blocks(format, rows, columns);
        let weight = Matrix::new(format, &data, rows, columns).unwrap();
        let share = weight.bytes() as f64 / data.len() as f64;
        assert!((1.0..=1.03).contains(&share), "{format:?}: {share}");
        let (mut all, mut some) = (vec![0.0; rows * columns], vec![0.0; 5 * columns]);
        weight.rows(0..rows, &mut all);
        weight.rows(14..19, &mut some);
        assert_eq!(some, all[14 * columns..19 * columns]);
    }
}

#[test]
fn a_scale_that_is_no_number_is_refused() {
    for format in FORMATS {
        let mut data = blocks(format, 2, 512);
        let bytes = format.block().1;
        let at = data.len() - bytes + if format == Format::Q6_K { 208 } else { 0 };
        data[at..at + 2].copy_from_slice(&half::f16::NAN.to_le_bytes());
        assert!(Matrix::new(format, &data, 2, 512).is_none(), "{format:?}");
    }
}

#[test]
fn many_rows_forward_and_backward_follow_the_dequantised_product() {
    // More than one panel, and a last one that is not whole.
    let (outputs, columns, rows) = (3000, 512, 40);
    let weight =
        Matrix::new(Format::Q4_K, &blocks(Format::Q4_K, outputs, columns), outputs, columns).unwrap();
    let mut plain = vec![0.0; outputs * columns];
    weight.rows(0..outputs, &mut plain);
    let x = hashed_values(9, 0, rows * columns, 2.0);
    let mut want = vec![0.0; rows * outputs];
    let w = Mat::new(&plain, outputs, columns);
    let of = |m, rows, columns| MatMut::new(m, rows, columns);
    let all = Threads::All;
    matmul(of(&mut want, rows, outputs), Into::Set, 1.0, Mat::new(&x, rows, columns), w.t(), all);
    let mut y = vec![f32::NAN; rows * outputs];
    panels::product(&weight, &x, &mut y);
    let bound = if crate::tiles::accelerated() { 6e-3 } else { 1e-5 };
    assert!(relative_error(&y, &want) < bound, "{}", relative_error(&y, &want));
}

#[test]
fn tiles_are_the_rows_rounded_either_way_round() {
    // 37 and 48 rows end in a group that is not whole and in half a tile's depth.
    for (format, rows) in FORMATS.into_iter().flat_map(|format| [(format, 37), (format, 48), (format, 64)]) {
        let columns = 512;
        let weight = Matrix::new(format, &blocks(format, rows, columns), rows, columns).unwrap();
        let mut plain = vec![0.0; rows * columns];
        weight.rows_in_parallel(0..rows, &mut plain);
        let same = |found: &Packed, want: Mat<'_>| {
            let (want, (k, n)) = (Packed::pack(want), want.shape());
            assert_eq!(found.shape(), (k, n), "{format:?}");
            let bits = |packed: &Packed| -> Vec<u32> {
                (0..k * n).map(|i| packed.get(i / n, i % n).to_bits()).collect()
            };
            assert!(bits(found) == bits(&want), "{format:?}, {rows} rows");
            let ones = vec![1.0; 3 * k];
            let product = |b: &Packed| {
                let mut y = vec![f32::NAN; 3 * n];
                tiles::matmul(&mut y, Into::Set, Mat::new(&ones, 3, k), b);
                y
            };
            assert_eq!(product(found), product(&want), "padding is zero in both: {format:?}, {rows} rows");
        };
        // The memory has other values from before.
        let used = || Packed::pack(Mat::new(&vec![7.0; 600 * 80], 600, 80));
        let (mut forward, mut part, mut backward) = (used(), used(), used());
        weight.tiles(0..rows, &mut forward, Threads::All);
        weight.tiles(16..rows, &mut part, Threads::One);
        weight.transposed_tiles(&mut backward, Threads::All);
        same(&forward, Mat::new(&plain, rows, columns).t());
        same(&part, Mat::new(&plain[16 * columns..], rows - 16, columns).t());
        same(&backward, Mat::new(&plain, rows, columns));
    }
}

#[test]
fn a_row_gives_the_same_bits_alone_and_among_many() {
    // 16 rows and more go another way on some paths, and 21 leave rows that are no whole tile.
    for format in FORMATS {
        let (columns, outputs, rows) = (512, 37, 21);
        let weight = Matrix::new(format, &blocks(format, outputs, columns), outputs, columns).unwrap();
        let x = hashed_values(10, format as u64, rows * columns, 2.0);
        for path in [Path::Portable, Path::Avx2, Path::Avx512Vnni] {
            let product = |x: &[f32]| {
                let mut y = vec![f32::NAN; x.len() / columns * outputs];
                let product = Product { weight: &weight, y: &mut y };
                products_on(path, Team::One, &Rounded::new(x, columns), &mut [product]);
                y
            };
            let alone: Vec<f32> = x.chunks_exact(columns).flat_map(product).collect();
            assert!(alone == product(&x), "{format:?} {path:?}");
        }
    }
}

#[test]
fn the_best_path_is_one_that_the_switch_allows() {
    // The tests run with the switch at each of its steps.
    let level = match Path::best() {
        Path::Avx512Vnni => Level::Avx512,
        Path::Avx2 => Level::Avx2,
        Path::Portable => Level::Portable,
    };
    assert!(level <= crate::cpu::allowed(), "{level:?}");
}
