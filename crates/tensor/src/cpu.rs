//! Run-time dispatch: one body of code, compiled once per instruction set, chosen when it runs.
//!
//! `dispatched!` wraps a function whose body the compiler can vectorise. The body is inlined into one copy per
//! instruction set, so all copies compute the same expression in the same order; what differs is the width.

/// Instruction sets a dispatched function is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// 512-bit vectors.
    Avx512,
    /// 256-bit vectors.
    Avx2,
    /// Whatever every CPU of the target has.
    Portable,
}

/// The variable that holds kernels back, for tests: `portable`, `avx2`, `avx512`, or `amx`, which is everything there is. The
/// products of the `gemm` library choose for themselves.
pub const SWITCH: &str = "UNDERDOG_ISA";

/// The variable that stands for a system which refuses the tile registers, for tests, where it is `1`.
pub const REFUSAL: &str = "UNDERDOG_AMX_REFUSED";

/// What [`REFUSAL`] says.
pub fn refuses_tiles() -> bool {
    std::env::var(REFUSAL).as_deref() == Ok("1")
}

/// How far up kernels may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every CPU of the target has.
    Portable,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 with what server CPUs of 2020 and later have of it.
    Avx512,
    /// Tiles.
    Amx,
}

/// What a word of [`SWITCH`] allows; `None` where it is none of its words.
pub fn level(word: &str) -> Option<Level> {
    match word {
        "portable" => Some(Level::Portable),
        "avx2" => Some(Level::Avx2),
        "avx512" => Some(Level::Avx512),
        "amx" => Some(Level::Amx),
        _ => None,
    }
}

/// What [`SWITCH`] allows, read once; everything where it is not set or says something else, which the program refuses.
pub fn allowed() -> Level {
    static ALLOWED: std::sync::OnceLock<Level> = std::sync::OnceLock::new();
    *ALLOWED.get_or_init(|| std::env::var(SWITCH).ok().and_then(|word| level(&word)).unwrap_or(Level::Amx))
}

/// The widest set this CPU has and may use. The standard library caches what it has, so this is a load and a compare.
#[inline]
pub fn best() -> Isa {
    #[cfg(target_arch = "x86_64")]
    {
        if allowed() >= Level::Avx512
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
        {
            return Isa::Avx512;
        }
        if allowed() >= Level::Avx2 && is_x86_feature_detected!("avx2") {
            return Isa::Avx2;
        }
    }
    Isa::Portable
}

/// Whether the kernels written for AVX-512 with its instructions for 16-bit values may run.
#[inline]
pub fn has_wide_words() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        best() == Isa::Avx512 && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512dq")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether those that round to bf16 with instructions made for it may run, too.
#[inline]
pub fn has_wide_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        has_wide_words() && is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Asks for the cache line of the first of `values`, if there is one. A hint that changes no result.
#[inline(always)]
pub fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program sees, and every CPU of the target has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// Defines `pub fn name(args)`, which runs `body` compiled for [`best`], and `name_on(isa, args)` for tests.
///
/// An `Isa` the CPU lacks falls back to the portable copy.
#[macro_export]
macro_rules! dispatched {
    ($(#[$meta:meta])* pub fn $name:ident / $name_on:ident ($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[inline]
        pub fn $name($($arg: $ty),*) $(-> $ret)? {
            $name_on($crate::cpu::best(), $($arg),*)
        }

        /// The same on a given instruction set, for tests; a set that this CPU lacks runs the portable code.
        #[allow(clippy::too_many_arguments)]
        pub fn $name_on(isa: $crate::cpu::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                if isa == $crate::cpu::Isa::Avx512 && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                    // SAFETY: the CPU was just asked for these features.
                    return unsafe { avx512($($arg),*) };
                }
                if isa == $crate::cpu::Isa::Avx2 && is_x86_feature_detected!("avx2") {
                    // SAFETY: the CPU was just asked for this feature.
                    return unsafe { avx2($($arg),*) };
                }
            }
            let _ = isa;
            body($($arg),*)
        }
    };
}
