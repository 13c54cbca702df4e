//! The tile registers: asking for them, setting them up, and one block of a product in inline assembly. Tiles 0–3 hold the
//! output, 4 and 5 the left factor, 6 and 7 the right one.

use super::{TILE, Term};
use crate::matmul::Into;
use std::arch::asm;
use std::arch::x86_64::__cpuid_count;

/// Asks the CPU for AMX-TILE and AMX-BF16.
pub fn exist() -> bool {
    let features = __cpuid_count(7, 0).edx;
    let (bf16, tile) = (features >> 22 & 1, features >> 24 & 1);
    bf16 == 1 && tile == 1
}

/// Asks the system for leave to use the tile registers.
pub fn permitted() -> bool {
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
pub struct Session(std::marker::PhantomData<*mut ()>);

/// One k step of a block after another, with the tile products of `$products` between the loads of `$loads`.
macro_rules! accumulate {
    ($term:expr, [$($load:literal),*]) => {
        asm!(
            "2:",
            $($load,)*
            "add {a0}, 1024",
            "add {a1}, 1024",
            "add {b0}, 1024",
            "add {b1}, 1024",
            "dec {count}",
            "jnz 2b",
            a0 = inout(reg) $term.a.as_ptr() => _,
            a1 = inout(reg) $term.a.as_ptr().wrapping_add($term.depth * TILE) => _,
            b0 = inout(reg) $term.b.as_ptr() => _,
            b1 = inout(reg) $term.b.as_ptr().wrapping_add($term.depth * TILE) => _,
            count = inout(reg) $term.depth => _,
            line = in(reg) 64usize,
            options(nostack),
        )
    };
}

impl Session {
    /// Sets the registers up. Callers made sure that AMX is available.
    pub fn begin() -> Self {
        let mut configuration =
            Configuration { palette: 1, start_row: 0, reserved: [0; 14], columns: [0; 16], rows: [0; 16] };
        configuration.columns[..8].fill(64);
        configuration.rows[..8].fill(16);
        // SAFETY: the configuration is a valid palette-1 table of 64 bytes, and AMX is available.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &configuration, options(nostack)) };
        Session(std::marker::PhantomData)
    }

    /// One block `c [16·R, 16·N]`, with rows `width` apart, of the sum of all terms. Every term holds R strips of tiles of its
    /// left factor and N of its right one, each `depth` tiles long.
    pub fn block<const R: usize, const N: usize>(
        &self,
        terms: &[Term<'_>],
        c: &mut [f32],
        width: usize,
        into: Into,
    ) {
        const { assert!(R >= 1 && R <= 2 && N >= 1 && N <= 2) };
        assert!(width >= 16 * N && c.len() >= (16 * R - 1) * width + 16 * N);
        let c = c.as_mut_ptr();
        let corners = [
            c,
            c.wrapping_add(16 * (N - 1)),
            c.wrapping_add(16 * width * (R - 1)),
            c.wrapping_add(16 * width * (R - 1) + 16 * (N - 1)),
        ];
        // SAFETY: the asserts keep every tile that is read or written inside its slice: a tile of `a` or `b` is 16 lines of 64
        // bytes, a tile of `c` 16 rows of 16 values. With R or N of 1 the second tile that way is neither loaded nor stored,
        // or it is the first once more. Tiles are set up as long as `self` lives, and `self` cannot leave this thread.
        unsafe {
            asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack));
            if into == Into::Add {
                asm!("tileloadd tmm0, [{c} + {s}*1]", c = in(reg) corners[0], s = in(reg) width * 4, options(nostack));
                if N == 2 {
                    asm!("tileloadd tmm1, [{c} + {s}*1]", c = in(reg) corners[1], s = in(reg) width * 4, options(nostack));
                }
                if R == 2 {
                    asm!("tileloadd tmm2, [{c} + {s}*1]", c = in(reg) corners[2], s = in(reg) width * 4, options(nostack));
                }
                if R == 2 && N == 2 {
                    asm!("tileloadd tmm3, [{c} + {s}*1]", c = in(reg) corners[3], s = in(reg) width * 4, options(nostack));
                }
            }
            for term in terms {
                let Term { a, b, depth } = *term;
                assert!(depth > 0 && a.len() >= R * depth * TILE && b.len() >= N * depth * TILE);
                match (R, N) {
                    (2, 2) => accumulate!(
                        term,
                        [
                            "tileloadd tmm4, [{a0} + {line}*1]",
                            "tileloadd tmm6, [{b0} + {line}*1]",
                            "tileloadd tmm7, [{b1} + {line}*1]",
                            "tdpbf16ps tmm0, tmm4, tmm6",
                            "tileloadd tmm5, [{a1} + {line}*1]",
                            "tdpbf16ps tmm1, tmm4, tmm7",
                            "tdpbf16ps tmm2, tmm5, tmm6",
                            "tdpbf16ps tmm3, tmm5, tmm7"
                        ]
                    ),
                    (2, _) => accumulate!(
                        term,
                        [
                            "tileloadd tmm4, [{a0} + {line}*1]",
                            "tileloadd tmm6, [{b0} + {line}*1]",
                            "tileloadd tmm5, [{a1} + {line}*1]",
                            "tdpbf16ps tmm0, tmm4, tmm6",
                            "tdpbf16ps tmm2, tmm5, tmm6"
                        ]
                    ),
                    (_, 2) => accumulate!(
                        term,
                        [
                            "tileloadd tmm4, [{a0} + {line}*1]",
                            "tileloadd tmm6, [{b0} + {line}*1]",
                            "tileloadd tmm7, [{b1} + {line}*1]",
                            "tdpbf16ps tmm0, tmm4, tmm6",
                            "tdpbf16ps tmm1, tmm4, tmm7"
                        ]
                    ),
                    _ => accumulate!(
                        term,
                        [
                            "tileloadd tmm4, [{a0} + {line}*1]",
                            "tileloadd tmm6, [{b0} + {line}*1]",
                            "tdpbf16ps tmm0, tmm4, tmm6"
                        ]
                    ),
                }
            }
            asm!("tilestored [{c} + {s}*1], tmm0", c = in(reg) corners[0], s = in(reg) width * 4, options(nostack));
            if N == 2 {
                asm!("tilestored [{c} + {s}*1], tmm1", c = in(reg) corners[1], s = in(reg) width * 4, options(nostack));
            }
            if R == 2 {
                asm!("tilestored [{c} + {s}*1], tmm2", c = in(reg) corners[2], s = in(reg) width * 4, options(nostack));
            }
            if R == 2 && N == 2 {
                asm!("tilestored [{c} + {s}*1], tmm3", c = in(reg) corners[3], s = in(reg) width * 4, options(nostack));
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: gives the tile registers back; nothing of this thread uses them any more.
        unsafe { asm!("tilerelease", options(nostack)) };
    }
}
