//! The one product of attention: 32 × 32 values of `c` from two rows of tiles and two columns of tiles, in the tile registers or,
//! without them, in vector registers.

use crate::matmul::Into;
use crate::tiles::Unit;
use crate::tiles::vectors::{self, Side, Strided};
use std::arch::asm;

/// One tile of bf16 values: 16 lines of 32, or of 16 pairs.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tile(pub [u16; 512]);

impl Tile {
    /// Zeros.
    pub const ZERO: Tile = Tile([0; 512]);
}

/// One vector of f32 values.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lane(pub [f32; 16]);

impl Lane {
    /// Zeros.
    pub const ZERO: Lane = Lane([0.0; 16]);

    /// Lanes as the values they are.
    pub fn values(lanes: &[Lane]) -> &[f32] {
        // SAFETY: a lane is 16 values and nothing else: its size is its alignment.
        unsafe { std::slice::from_raw_parts(lanes.as_ptr().cast(), lanes.len() * 16) }
    }

    /// The same, to be changed.
    pub fn values_mut(lanes: &mut [Lane]) -> &mut [f32] {
        // SAFETY: as above; the values are borrowed as long as the lanes are.
        unsafe { std::slice::from_raw_parts_mut(lanes.as_mut_ptr().cast(), lanes.len() * 16) }
    }

    /// Copies as many values as `to` has room for, at most 16.
    #[inline(always)]
    pub fn copy_to(&self, to: &mut [f32]) {
        match to.first_chunk_mut() {
            Some(to) => *to = self.0,
            None => to.copy_from_slice(&self.0[..to.len()]),
        }
    }
}

/// A factor: tiles `0`, `step`, `2 · step` … along the inner dimension, and the same `second` tiles further.
#[derive(Clone, Copy, Debug)]
pub struct Factor<'a> {
    pub tiles: &'a [Tile],
    pub second: usize,
    pub step: usize,
}

impl<'a> Factor<'a> {
    /// In values.
    fn side(&self) -> Side<'a> {
        // SAFETY: a tile is 512 values and nothing else: its size is a multiple of its alignment.
        let values =
            unsafe { std::slice::from_raw_parts(self.tiles.as_ptr().cast(), self.tiles.len() * 512) };
        Side { values, second: self.second * 512, step: self.step * 512 }
    }

    fn check(&self, depth: usize) {
        assert!(self.second + (depth - 1) * self.step < self.tiles.len());
    }
}

/// What multiplies tiles on this thread.
pub struct Registers(Unit);

impl Registers {
    /// Sets the registers up.
    pub fn configure() -> Self {
        Registers(Unit::best())
    }

    /// `c = a · b` or `c += a · b`: `c [32, 32]` with rows `width` lanes apart, `a [32, 32 · depth]` in lines of 32 values, `b`
    /// in lines of 16 pairs.
    #[inline(always)]
    pub fn product(
        &self,
        c: &mut [Lane],
        width: usize,
        into: Into,
        a: Factor<'_>,
        b: Factor<'_>,
        depth: usize,
    ) {
        assert!(depth > 0 && width >= 2 && c.len() >= 31 * width + 2);
        a.check(depth);
        b.check(depth);
        if let Unit::Vectors(isa) = self.0 {
            let term = Strided { a: a.side(), b: b.side(), depth };
            return vectors::block::<2>(isa, 32, &[term], Lane::values_mut(c), width * 16, into);
        }
        let (stride, c0) = (width * 64, c.as_mut_ptr().cast::<u8>());
        // SAFETY: the asserts keep every tile that is read or written inside its slice: a factor's tile is 16 lines of 64 bytes,
        // a tile of `c` 16 rows of one lane. Tiles are configured as long as `self` lives, and `self` cannot leave this thread.
        unsafe {
            let c1 = c0.add(16 * stride);
            match into {
                Into::Set => asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    options(nostack, nomem)
                ),
                Into::Add => asm!(
                    "tileloadd tmm0, [{c0} + {s}*1]", "tileloadd tmm1, [{c0} + {s}*1 + 64]",
                    "tileloadd tmm2, [{c1} + {s}*1]", "tileloadd tmm3, [{c1} + {s}*1 + 64]",
                    c0 = in(reg) c0, c1 = in(reg) c1, s = in(reg) stride, options(nostack),
                ),
            }
            asm!(
                "2:",
                "tileloadd tmm4, [{a0} + {line}*1]",
                "tileloadd tmm6, [{b0} + {line}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b1} + {line}*1]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a1} + {line}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a0}, {da}",
                "add {a1}, {da}",
                "add {b0}, {db}",
                "add {b1}, {db}",
                "dec {count}",
                "jnz 2b",
                a0 = inout(reg) a.tiles.as_ptr() => _,
                a1 = inout(reg) a.tiles.as_ptr().add(a.second) => _,
                b0 = inout(reg) b.tiles.as_ptr() => _,
                b1 = inout(reg) b.tiles.as_ptr().add(b.second) => _,
                da = in(reg) a.step * 1024,
                db = in(reg) b.step * 1024,
                count = inout(reg) depth => _,
                line = in(reg) 64usize,
                options(nostack),
            );
            asm!(
                "tilestored [{c0} + {s}*1], tmm0", "tilestored [{c0} + {s}*1 + 64], tmm1",
                "tilestored [{c1} + {s}*1], tmm2", "tilestored [{c1} + {s}*1 + 64], tmm3",
                c0 = in(reg) c0, c1 = in(reg) c1, s = in(reg) stride, options(nostack),
            );
        }
    }
}
