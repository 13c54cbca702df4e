//! Growing buffers that begin on a cache line: a tile or vector load that straddles two lines costs twice.

use std::ops::{Deref, DerefMut};

/// Values that any bytes are valid for and that divide a cache line.
pub trait Plain: Copy + Default + Send + Sync + sealed::Sealed {}
impl Plain for u16 {}
impl Plain for f32 {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u16 {}
    impl Sealed for f32 {}
}

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// `len` values of `T`, the first at the start of a cache line. Dereferences to a slice.
#[derive(Clone)]
pub struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    of: std::marker::PhantomData<T>,
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Aligned { lines: Vec::new(), len: 0, of: std::marker::PhantomData }
    }
}

impl<T: Plain> Aligned<T> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut new = Self::default();
        new.resize(len);
        new
    }

    /// Makes it `len` values long. What was there stays, what a shorter length hid may come back, what is new is zero:
    /// for scratch that is written before it is read.
    ///
    /// # Panics
    /// When no memory can have so many.
    pub fn resize(&mut self, len: usize) {
        let bytes = len.checked_mul(size_of::<T>());
        assert!(bytes.is_some(), "{len} values are more than memory can have");
        let lines = bytes.unwrap_or_default().div_ceil(64);
        if lines > self.lines.len() {
            self.lines.resize(lines, Line([0; 64]));
        }
        self.len = len;
    }
}

impl<T: Plain> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `lines` holds at least `len` values (see `resize`), all of them initialised; `T` is u16 or f32, for which
        // any bytes are valid and whose alignment divides 64.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Plain> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl<T> std::fmt::Debug for Aligned<T> {
    /// Millions of values help nobody.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Aligned({} values)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_on_a_line_and_new_values_are_zero() {
        let mut x = Aligned::<f32>::zeros(3);
        x.copy_from_slice(&[1.0, 2.0, 3.0]);
        x.resize(1000);
        assert_eq!(x.as_ptr() as usize % 64, 0);
        assert_eq!((x[..3].to_vec(), x[16..].iter().sum::<f32>()), (vec![1.0, 2.0, 3.0], 0.0));
    }
}
