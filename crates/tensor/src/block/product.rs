//! Products of factors: sums of terms into panels, and several weights in blocks that meet the same rows.

use super::{Factor, Panels, Rows};
use crate::matmul::{Into, Mat, MatMut, Threads, matmul};
use crate::pool::Team;
use crate::quantised::{self, Product, activation::Rounded};
use crate::tiles;

impl Panels {
    /// `self = Σ a · b` or `self += Σ a · b` over the terms, for the columns of the right factors from `column` on (a multiple
    /// of 32), as many as `self` has. [`Panels::reset`] comes first.
    pub fn product(&mut self, into: Into, column: usize, terms: &[(&Rows, Factor<'_>)], team: Team<'_>) {
        if self.rows == 0 || self.n == 0 {
            return;
        }
        if let Some((Rows::Bf16(_), _)) = terms.first() {
            return self.tile_product(into, column, terms, team);
        }
        let threads = if matches!(team, Team::One) { Threads::One } else { Threads::All };
        for (i, (a, b)) in terms.iter().enumerate() {
            let into = if i == 0 { into } else { Into::Add };
            let (values, k, b) = match (a, b) {
                (Rows::F32 { values, k, .. }, Factor::F32(b)) => (values, k, b),
                (Rows::F32 { values, k, rounded }, Factor::Blocks(weight)) => {
                    assert_eq!(
                        (into, column, self.n),
                        (Into::Set, 0, weight.shape().0),
                        "a weight in blocks"
                    );
                    let y = &mut self.values;
                    let rounded = rounded.get_or_init(|| Rounded::new(values, *k));
                    quantised::products(team, rounded, &mut [Product { weight, y }]);
                    continue;
                }
                _ => unreachable!("one format a product"),
            };
            let c = MatMut::new(&mut self.values, self.rows, self.n);
            matmul(
                c,
                into,
                1.0,
                Mat::new(values, self.rows, *k),
                b.columns(column..column + self.n),
                threads,
            );
        }
    }

    fn tile_product<'t>(
        &mut self,
        into: Into,
        column: usize,
        terms: &[(&'t Rows, Factor<'t>)],
        team: Team<'_>,
    ) {
        let pair = |term: &(&'t Rows, Factor<'t>)| match *term {
            (Rows::Bf16(a), Factor::Bf16(b)) => (a, b),
            _ => unreachable!("one format a product"),
        };
        let mut pairs = [pair(&terms[0]); tiles::TERMS];
        pairs.iter_mut().zip(terms).for_each(|(to, term)| *to = pair(term));
        let pairs = &pairs[..terms.len()];
        let (width, size) = (self.width, self.width * self.height);
        let one = |(i, c): (usize, &mut [f32])| tiles::panel(c, width, into, column + i * width, pairs);
        match team {
            Team::One => self.values.chunks_exact_mut(size).enumerate().for_each(one),
            Team::All(pool) => {
                let mut panels: Vec<&mut [f32]> = self.values.chunks_exact_mut(size).collect();
                pool.each(&mut panels, |i, c| one((i, c)));
            }
        }
    }
}

/// `outs[i] = x Wᵢᵀ` where all weights are in blocks, in one go of the team; else nothing is done. Says whether it was.
///
/// # Panics
/// When shapes do not fit.
pub fn products_in_blocks<const N: usize>(
    x: &Rows,
    outs: &mut [&mut Panels; N],
    weights: [Factor<'_>; N],
    team: Team<'_>,
) -> bool {
    let Rows::F32 { values, k, rounded } = x else { return false };
    if weights.iter().any(|weight| !matches!(weight, Factor::Blocks(..))) {
        return false;
    }
    let mut products = Vec::with_capacity(N);
    for (out, weight) in outs.iter_mut().zip(weights) {
        if let Factor::Blocks(weight) = weight {
            assert_eq!(out.n, weight.shape().0, "a weight in blocks");
            products.push(Product { weight, y: &mut out.values });
        }
    }
    quantised::products(team, rounded.get_or_init(|| Rounded::new(values, *k)), &mut products);
    true
}
