//! What this machine can do at most, measured: bytes read a second, and arithmetic of the products. Benchmarks say how much
//! of it they reach.

use crate::aligned::Aligned;
use crate::math::sum_over;
use crate::matmul::{Into, Mat, MatMut, Threads, matmul};
use crate::pool::{Pool, Team, share};
use crate::quantised::activation::Rounded;
use crate::quantised::{self, BLOCK, Format, Matrix, Product};
use crate::tiles::{self, Left, Packed};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Rows and columns of the square products that are timed.
const SIDE: usize = 1024;

crate::dispatched! {
    /// A sum that reads every value; the result keeps the reads from being left out.
    pub fn sum / sum_on (values: &[f32]) -> f32 {
        let quarter = values.len() / 4;
        let (a, b) = values[..4 * quarter].split_at(2 * quarter);
        let ((a, b), (c, d)) = (a.split_at(quarter), b.split_at(quarter));
        sum_over([a, b, c, d], |[a, b, c, d]| (a + b) + (c + d))
    }
}

/// Bytes a second that the pool's threads read together from a buffer of `bytes`: the best of the passes that fit into `time`,
/// three at least. A buffer that fits a cache measures the cache.
pub fn read_bandwidth(pool: &Pool, bytes: usize, time: Duration) -> f64 {
    let data = vec![1.0f32; (bytes / 4).max(pool.threads() * 1024)];
    let total = Mutex::new(0.0f32);
    let seconds = best(time, || {
        pool.run(&|worker| {
            // Stretches of half a megabyte, so that the four streams of a sum lie close together.
            for part in data[share(data.len(), pool.threads(), worker)].chunks(1 << 17) {
                let value = std::hint::black_box(sum(part));
                if let Ok(mut total) = total.try_lock() {
                    *total += value;
                }
            }
        });
    });
    (data.len() * 4) as f64 / seconds
}

/// Arithmetic operations a second (multiplications and additions) of a square f32 product on all threads of the current
/// `rayon` pool.
pub fn f32_product(time: Duration) -> f64 {
    let (a, b) = (vec![0.5; SIDE * SIDE], vec![0.25; SIDE * SIDE]);
    let mut c = vec![0.0; SIDE * SIDE];
    let seconds = best(time, || {
        let (a, b) = (Mat::new(&a, SIDE, SIDE), Mat::new(&b, SIDE, SIDE));
        matmul(MatMut::new(&mut c, SIDE, SIDE), Into::Set, 1.0, a, b, Threads::All);
    });
    2.0 * (SIDE * SIDE * SIDE) as f64 / seconds
}

/// Rows, inner dimension and columns of the bf16 product: both factors and the result stay in a core's second cache.
const CACHED: [usize; 3] = [128, 512, 256];

/// The same in bf16, without packing: every thread of the pool multiplies factors of its own that lie ready in its cache.
pub fn bf16_product(pool: &Pool, time: Duration) -> f64 {
    let [m, k, n] = CACHED;
    let factors = || {
        let mut left = Left::default();
        left.load(Mat::new(&vec![0.5; m * k], m, k));
        (left, Packed::pack(Mat::new(&vec![0.25; k * n], k, n)), Aligned::<f32>::zeros(m * n))
    };
    let mut own: Vec<_> = (0..pool.threads()).map(|_| factors()).collect();
    // A call is so long that starting the threads is no part of it.
    const TIMES: usize = 64;
    let seconds = best(time, || {
        pool.each(&mut own, |_, (left, right, c)| {
            for _ in 0..TIMES {
                for (i, c) in c.chunks_exact_mut(m * tiles::BLOCK).enumerate() {
                    tiles::panel(c, tiles::BLOCK, Into::Set, i * tiles::BLOCK, &[(left, right)]);
                }
            }
        });
    });
    (2 * m * k * n * TIMES * pool.threads()) as f64 / seconds
}

/// The same of rows in 8-bit integers with weights in blocks of four bits, which no other kind outruns, on the best path of this CPU:
/// rounding the rows is no part of it, taking the blocks apart and adding up their scaled sums is.
pub fn integer_product(pool: &Pool, time: Duration) -> f64 {
    let [m, k, n] = CACHED;
    // A scale of 1/64 and a least value of 0 as half-precision numbers, and two codes a byte.
    let block: Vec<u8> =
        [0x00, 0x24, 0x00, 0x00].into_iter().chain((0..BLOCK as u8 / 2).map(|i| 11 * i)).collect();
    let own = || {
        let weight = Matrix::new(Format::Q4_1, &block.repeat(n * k / BLOCK), n, k).expect("a finite scale");
        (weight, Rounded::new(&vec![0.5; m * k], k), vec![0.0; m * n])
    };
    let mut own: Vec<_> = (0..pool.threads()).map(|_| own()).collect();
    const TIMES: usize = 16;
    let seconds = best(time, || {
        pool.each(&mut own, |_, (weight, x, y)| {
            for _ in 0..TIMES {
                quantised::products(Team::One, x, &mut [Product { weight, y }]);
            }
        });
    });
    (2 * m * k * n * TIMES * pool.threads()) as f64 / seconds
}

/// The shortest of the calls that fit into `time`; three at least.
fn best(time: Duration, mut call: impl FnMut()) -> f64 {
    let (since, mut shortest, mut calls) = (Instant::now(), f64::INFINITY, 0);
    while calls < 3 || since.elapsed() < time {
        let start = Instant::now();
        call();
        shortest = shortest.min(start.elapsed().as_secs_f64());
        calls += 1;
    }
    // A clock that did not move says nothing; a nanosecond keeps the rate finite.
    shortest.max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;

    #[test]
    fn the_sum_reads_every_value_and_rates_are_plausible() {
        let values: Vec<f32> = (0..4096).map(|i| (i % 7) as f32).collect();
        let want: f32 = values.iter().sum();
        for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
            assert_eq!(sum_on(isa, &values), want);
        }
        let time = Duration::from_millis(1);
        let rate = read_bandwidth(&Pool::new(2), 1 << 22, time);
        assert!((1e8..1e13).contains(&rate), "{rate}");
        assert!((1e8..1e14).contains(&f32_product(time)));
        assert!((1e8..1e14).contains(&bf16_product(&Pool::new(2), time)));
        assert!((1e8..1e14).contains(&integer_product(&Pool::new(2), time)));
    }
}
