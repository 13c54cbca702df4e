//! Matrix products in bf16 on AMX tiles, accumulated in f32: `c = a · b` with `b` packed once.
//!
//! Both factors are rounded to bf16 (nearest, ties to even), products are exact, sums are f32. The safe reference is
//! [`crate::matmul`] on rounded inputs; the tests compare the two. What this module leaves to others: when to use it.

use crate::matmul::{Into, Mat};
use rayon::prelude::*;

/// Rows and columns of one block of the output: two tiles each way.
const BLOCK: usize = 32;
/// Values of the inner dimension in one tile.
const DEPTH: usize = 32;
/// Values in one tile of `b`.
const TILE: usize = 512;

/// A factor `b [k, n]` in bf16, laid out as tiles: for each 16 columns, for each 32 rows, pairs of rows interleaved.
/// Padded with zeros to whole blocks.
#[derive(Clone, Debug)]
pub struct Packed {
    data: Vec<u16>,
    k: usize,
    n: usize,
}

/// `x` in bf16, rounded to nearest, ties to even. Infinities stay; a NaN stays one.
#[inline(always)]
fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1))) >> 16;
    if x.is_nan() { ((bits >> 16) | 0x40) as u16 } else { rounded as u16 }
}

crate::dispatched! {
    /// Rounds a row to bf16; `to` may be longer, the rest is left alone.
    pub fn round_row / round_row_on (to: &mut [u16], from: &[f32]) {
        for (to, from) in to[..from.len()].iter_mut().zip(from) {
            *to = round(*from);
        }
    }
}

impl Packed {
    /// Rounds and packs `b [k, n]`.
    pub fn pack(b: Mat<'_>) -> Self {
        let (k, n) = b.shape();
        let (depth, columns) = (k.div_ceil(DEPTH), n.next_multiple_of(BLOCK) / 16);
        let mut data = vec![0u16; columns * depth * TILE];
        data.par_chunks_mut(depth * TILE).enumerate().for_each(|(column, tiles)| {
            let width = 16.min(n.saturating_sub(column * 16));
            for row in 0..k {
                let (tile, inner) = (row / DEPTH, row % DEPTH);
                let line = &mut tiles[tile * TILE + inner / 2 * 32..][..32];
                for j in 0..width {
                    line[2 * j + inner % 2] = round(b.get(row, column * 16 + j));
                }
            }
        });
        Packed { data, k, n }
    }

    /// The transpose `[n, k]`, packed. Nothing is rounded again.
    pub fn transposed(&self) -> Self {
        let value = |row: usize, column: usize| {
            let tile = &self.data[(column / 16 * self.depth() + row / DEPTH) * TILE..][..TILE];
            f32::from_bits((tile[row % DEPTH / 2 * 32 + column % 16 * 2 + row % 2] as u32) << 16)
        };
        let plain: Vec<f32> = (0..self.k * self.n).map(|i| value(i / self.n, i % self.n)).collect();
        Packed::pack(Mat::new(&plain, self.k, self.n).t())
    }

    /// `(k, n)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.k, self.n)
    }

    fn depth(&self) -> usize {
        self.k.div_ceil(DEPTH)
    }
}

/// Whether this CPU has AMX with bf16 and the kernel lets this process use it. Asked once.
pub fn available() -> bool {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        use std::sync::OnceLock;
        static ANSWER: OnceLock<bool> = OnceLock::new();
        *ANSWER.get_or_init(kernel::ask)
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    false
}

/// `c = a · b` or `c += a · b`, with `a [m, k]` of contiguous rows and `c [m, n]` row-major.
///
/// # Panics
/// When shapes do not fit, or AMX is not [`available`].
pub fn matmul(c: &mut [f32], into: Into, a: Mat<'_>, b: &Packed) {
    let (m, k) = a.shape();
    assert!(available(), "AMX is not available");
    assert_eq!((k, m * b.n), (b.k, c.len()), "amx: [{m}, {k}] · [{}, {}] into {} values", b.k, b.n, c.len());
    if m == 0 || b.n == 0 {
        return;
    }
    let rows = rounded_rows(a);
    let threads = rayon::current_num_threads();
    if m >= 2 * BLOCK {
        // Rows are dealt out: every task reads all of b.
        let share = m.div_ceil(threads).next_multiple_of(BLOCK);
        c.par_chunks_mut(share * b.n).enumerate().for_each(|(i, c)| {
            let first = i * share;
            product(c, b.n, into, &rows, first, b, 0..b.n);
        });
    } else {
        // Few rows, as in decoding: columns are dealt out, so that every task reads its own part of b.
        let share = b.n.div_ceil(threads * 4).next_multiple_of(BLOCK);
        let starts: Vec<usize> = (0..b.n).step_by(share).collect();
        let parts: Vec<Vec<f32>> = starts
            .par_iter()
            .map(|&start| {
                let width = share.min(b.n - start);
                let mut part = vec![0.0; m * width];
                product(&mut part, width, Into::Set, &rows, 0, b, start..start + width);
                part
            })
            .collect();
        for (start, part) in starts.into_iter().zip(parts) {
            let width = share.min(b.n - start);
            for (c, part) in c.chunks_exact_mut(b.n).zip(part.chunks_exact(width)) {
                let c = &mut c[start..start + width];
                match into {
                    Into::Set => c.copy_from_slice(part),
                    Into::Add => c.iter_mut().zip(part).for_each(|(c, p)| *c += p),
                }
            }
        }
    }
}

/// `a` in bf16 as tiles: for each 16 rows, for each 32 columns, 16 lines of 32 values. Padded with zeros to whole blocks, so
/// that the kernel reads both factors as streams.
fn rounded_rows(a: Mat<'_>) -> Vec<u16> {
    let (m, k) = a.shape();
    let strip = k.div_ceil(DEPTH) * TILE;
    let mut data = vec![0u16; m.next_multiple_of(BLOCK) / 16 * strip];
    data.par_chunks_mut(strip).enumerate().for_each(|(index, strip)| {
        for i in 0..16.min(m.saturating_sub(index * 16)) {
            for (tile, from) in strip.chunks_exact_mut(TILE).zip(a.row(index * 16 + i).chunks(DEPTH)) {
                round_row(&mut tile[i * DEPTH..(i + 1) * DEPTH], from);
            }
        }
    });
    data
}

/// Rows `first..` of the product into `c [rows, width]`, for the columns `columns` of `b` (from a whole block on).
fn product(
    c: &mut [f32],
    width: usize,
    into: Into,
    a: &[u16],
    first: usize,
    b: &Packed,
    columns: std::ops::Range<usize>,
) {
    let (rows, depth) = (c.len() / width, b.depth());
    let mut scratch = [0.0f32; BLOCK * BLOCK];
    let tiles = kernel::Tiles::configure();
    for column in (0..columns.len()).step_by(BLOCK) {
        let panel = &b.data[(columns.start + column) / 16 * depth * TILE..][..2 * depth * TILE];
        for row in (0..rows).step_by(BLOCK) {
            let block = &a[(first + row) / 16 * depth * TILE..][..2 * depth * TILE];
            let (height, breadth) = (BLOCK.min(rows - row), BLOCK.min(width - column));
            if height == BLOCK && breadth == BLOCK {
                tiles.block(block, panel, depth, &mut c[row * width + column..], width, into);
                continue;
            }
            tiles.block(block, panel, depth, &mut scratch, BLOCK, Into::Set);
            for i in 0..height {
                let (to, from) =
                    (&mut c[(row + i) * width + column..][..breadth], &scratch[i * BLOCK..][..breadth]);
                match into {
                    Into::Set => to.copy_from_slice(from),
                    Into::Add => to.iter_mut().zip(from).for_each(|(to, from)| *to += from),
                }
            }
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod kernel {
    use super::{BLOCK, Into, TILE};
    use std::arch::asm;
    use std::arch::x86_64::__cpuid_count;

    /// Asks the CPU for AMX-TILE and AMX-BF16 and the kernel for leave to use the tile registers.
    pub fn ask() -> bool {
        let features = __cpuid_count(7, 0).edx;
        let (bf16, tile) = (features >> 22 & 1, features >> 24 & 1);
        if bf16 == 0 || tile == 0 {
            return false;
        }
        const ARCH_PRCTL: i64 = 158;
        const REQUEST_PERMISSION: i64 = 0x1023;
        const TILE_DATA: i64 = 18;
        let result: i64;
        // SAFETY: arch_prctl with this request changes only which registers the kernel saves for this process.
        unsafe {
            asm!("syscall", inlateout("rax") ARCH_PRCTL => result, in("rdi") REQUEST_PERMISSION, in("rsi") TILE_DATA,
                 out("rcx") _, out("r11") _, options(nostack));
        }
        result == 0
    }

    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        columns: [u16; 16],
        rows: [u8; 16],
    }

    /// The tile registers of this thread, set up as eight tiles of 16 rows of 64 bytes; released on drop.
    pub struct Tiles(std::marker::PhantomData<*mut ()>);

    impl Tiles {
        /// Sets the registers up.
        ///
        /// # Panics
        /// Not here: callers made sure that AMX is available.
        pub fn configure() -> Self {
            let mut configuration = Configuration {
                palette: 1,
                start_row: 0,
                reserved: [0; 14],
                columns: [0; 16],
                rows: [0; 16],
            };
            configuration.columns[..8].fill(64);
            configuration.rows[..8].fill(16);
            // SAFETY: the configuration is a valid palette-1 table of 64 bytes, and AMX is available.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &configuration, options(nostack)) };
            Tiles(std::marker::PhantomData)
        }

        /// One block: `c [32, 32]` with rows `width` apart from two rows of tiles of `a` and two columns of tiles of `b`, each
        /// `depth` tiles long.
        pub fn block(&self, a: &[u16], b: &[u16], depth: usize, c: &mut [f32], width: usize, into: Into) {
            assert!(depth > 0 && a.len() >= 2 * depth * TILE && b.len() >= 2 * depth * TILE);
            assert!(width >= BLOCK && c.len() >= (BLOCK - 1) * width + BLOCK);
            let c = c.as_mut_ptr();
            // SAFETY: the asserts keep every tile that is read or written inside its slice: a tile of `a` or `b` is 16 lines of
            // 64 bytes, a tile of `c` 16 rows of 16 values. Tiles are configured as long as `self` lives, and `self` cannot leave
            // this thread.
            unsafe {
                let corners = [c, c.add(16), c.add(16 * width), c.add(16 * width + 16)];
                match into {
                    Into::Set => asm!(
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "tilezero tmm2",
                        "tilezero tmm3",
                        options(nostack)
                    ),
                    Into::Add => asm!(
                        "tileloadd tmm0, [{c0} + {s}*1]", "tileloadd tmm1, [{c1} + {s}*1]",
                        "tileloadd tmm2, [{c2} + {s}*1]", "tileloadd tmm3, [{c3} + {s}*1]",
                        c0 = in(reg) corners[0], c1 = in(reg) corners[1], c2 = in(reg) corners[2], c3 = in(reg) corners[3],
                        s = in(reg) width * 4, options(nostack),
                    ),
                }
                asm!(
                    "2:",
                    "tileloadd tmm4, [{a0} + {line}*1]",
                    "tileloadd tmm6, [{b0} + {line}*1]",
                    "tileloadd tmm7, [{b1} + {line}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm5, [{a1} + {line}*1]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {a0}, 1024",
                    "add {a1}, 1024",
                    "add {b0}, 1024",
                    "add {b1}, 1024",
                    "dec {count}",
                    "jnz 2b",
                    a0 = inout(reg) a.as_ptr() => _,
                    a1 = inout(reg) a.as_ptr().add(depth * TILE) => _,
                    b0 = inout(reg) b.as_ptr() => _,
                    b1 = inout(reg) b.as_ptr().add(depth * TILE) => _,
                    count = inout(reg) depth => _,
                    line = in(reg) 64usize,
                    options(nostack),
                );
                asm!(
                    "tilestored [{c0} + {s}*1], tmm0", "tilestored [{c1} + {s}*1], tmm1",
                    "tilestored [{c2} + {s}*1], tmm2", "tilestored [{c3} + {s}*1], tmm3",
                    c0 = in(reg) corners[0], c1 = in(reg) corners[1], c2 = in(reg) corners[2], c3 = in(reg) corners[3],
                    s = in(reg) width * 4, options(nostack),
                );
            }
        }
    }

    impl Drop for Tiles {
        fn drop(&mut self) {
            // SAFETY: gives the tile registers back; nothing of this thread uses them any more.
            unsafe { asm!("tilerelease", options(nostack)) };
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod kernel {
    use super::Into;

    /// Never made where there is no AMX.
    pub struct Tiles;

    impl Tiles {
        /// Not reached: [`super::available`] is false here.
        pub fn configure() -> Self {
            Tiles
        }

        /// Not reached.
        pub fn block(&self, _: &[u16], _: &[u16], _: usize, _: &mut [f32], _: usize, _: Into) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matmul::{self, MatMut, Threads};
    use underdog_testkit::{hashed_values, relative_error};

    fn rounded(x: &[f32]) -> Vec<f32> {
        x.iter().map(|&v| f32::from_bits((round(v) as u32) << 16)).collect()
    }

    #[test]
    fn rounding_is_to_nearest_with_ties_to_even() {
        let bf16 = |bits: u32| (round(f32::from_bits(bits)), bits >> 16);
        assert_eq!(bf16(0x3f80_8000).0, 0x3f80, "a tie goes to the even neighbour below");
        assert_eq!(bf16(0x3f81_8000).0, 0x3f82, "a tie goes to the even neighbour above");
        assert_eq!(bf16(0x3f80_8001).0, 0x3f81);
        assert_eq!(round(f32::INFINITY), 0x7f80);
        assert!(f32::from_bits((round(f32::NAN) as u32) << 16).is_nan());
        assert_eq!(round(-0.0), 0x8000);
    }

    #[test]
    fn tiles_give_the_f32_product_of_rounded_factors() {
        if !available() {
            println!("this machine has no AMX: the tile kernel is not run here");
            return;
        }
        for (m, n, k) in [
            (1, 32, 32),
            (1, 70, 33),
            (31, 40, 64),
            (33, 49, 95),
            (64, 64, 576),
            (150, 192, 100),
            (200, 65, 31),
        ] {
            let (a, b) = (hashed_values(1, 0, m * k, 2.0), hashed_values(1, 1, k * n, 2.0));
            let (ra, rb) = (rounded(&a), rounded(&b));
            let packed = Packed::pack(Mat::new(&b, k, n));
            let transposed: Vec<f32> = (0..n * k).map(|i| b[(i % k) * n + i / k]).collect();
            let from_transposed = Packed::pack(Mat::new(&transposed, n, k).t());
            assert_eq!(packed.data, from_transposed.data);
            assert_eq!(Packed::pack(Mat::new(&transposed, n, k)).data, packed.transposed().data);
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
}
