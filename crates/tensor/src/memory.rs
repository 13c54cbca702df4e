//! How the allocator treats freed memory. Activations of a step are freed in the order that lets glibc hand the pages back to
//! the system, and the next step faults every one of them in again: measured at an eighth of a training step.

/// Asks the allocator to keep freed memory for the process. Meant for a program's start, before its threads; a library does
/// not call it. Does nothing where the allocator is not glibc's.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: the declaration is that of glibc's malloc.h.
        unsafe extern "C" {
            fn mallopt(parameter: i32, value: i32) -> i32;
        }
        const TRIM_THRESHOLD: i32 = -1;
        const MMAP_THRESHOLD: i32 = -3;
        const ARENA_MAX: i32 = -8;
        // SAFETY: mallopt takes two integers and changes settings of the allocator only; unknown ones are refused.
        unsafe {
            mallopt(TRIM_THRESHOLD, i32::MAX);
            // The largest that glibc accepts. Larger blocks stay mapped and unmapped on their own.
            mallopt(MMAP_THRESHOLD, 32 << 20);
            mallopt(ARENA_MAX, 1);
        }
    }
}
