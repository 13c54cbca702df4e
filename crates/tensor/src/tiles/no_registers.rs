//! Stands in for the tile registers where there is no AMX. Nothing here is reached: `amx_available` is false.

use super::Term;
use crate::matmul::Into;

/// Never made.
pub struct Session;

impl Session {
    /// Not reached.
    pub fn begin() -> Self {
        Session
    }

    /// Not reached.
    pub fn block<const R: usize, const N: usize>(&self, _: &[Term<'_>], _: &mut [f32], _: usize, _: Into) {}
}
