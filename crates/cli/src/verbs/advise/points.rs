//! Which points a learning curve has: numbers of training rows, and how long each trains.

use underdog_eval::{Error, Kind, Result};
use underdog_train::recipe::Recipe;

/// A point of the curve trains for at least so many steps, unless the whole has fewer: with a handful of steps it would
/// show how little was trained, not how little there was to learn from.
const FEWEST_STEPS: usize = 30;

/// Shares in per cent, ascending, each once.
pub fn shares(typed: &[f64]) -> Result<Vec<f64>> {
    let mut shares = typed.to_vec();
    shares.sort_by(f64::total_cmp);
    shares.dedup();
    match shares.iter().all(|share| *share > 0.0 && *share <= 100.0) && !shares.is_empty() {
        true => Ok(shares),
        false => Err(Error::new(Kind::Usage, "--shares")
            .expected("numbers above 0 and up to 100, such as 5,10,25,50,100")
            .found(format!("{typed:?}"))),
    }
}

/// Rows of each point, ascending, each number once.
pub fn counts(shares: &[f64], rows: usize) -> Vec<usize> {
    let mut counts: Vec<usize> =
        shares.iter().map(|share| ((share / 100.0 * rows as f64).ceil() as usize).clamp(1, rows)).collect();
    counts.dedup();
    counts
}

/// The recipe of a point with `rows` of `all` rows: as many epochs, but not too few steps, and never more than `cap`.
pub fn at_point(recipe: &Recipe, (rows, all): (usize, usize), cap: Option<usize>) -> Recipe {
    let least = FEWEST_STEPS.min(recipe.total_steps(all));
    let steps = recipe.total_steps(rows).max(least).min(cap.unwrap_or(usize::MAX)).max(1);
    Recipe { steps: Some(steps), ..recipe.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_ascending_numbers_of_rows() {
        let shares = shares(&[100.0, 5.0, 50.0, 5.0]).unwrap();
        assert_eq!(counts(&shares, 355), [18, 178, 355]);
        assert_eq!(counts(&shares, 3), [1, 2, 3]);
        assert!(
            super::shares(&[0.0]).is_err() && super::shares(&[101.0]).is_err() && super::shares(&[]).is_err()
        );
    }

    #[test]
    fn few_rows_still_get_some_steps_and_a_cap_holds() {
        let recipe = Recipe { epochs: 4.0, batch: 8, ..Recipe::default() };
        assert_eq!(at_point(&recipe, (18, 355), None).steps, Some(30));
        assert_eq!(at_point(&recipe, (355, 355), None).steps, Some(178));
        assert_eq!(at_point(&recipe, (355, 355), Some(20)).steps, Some(20));
        let short = Recipe { steps: Some(6), ..recipe };
        assert_eq!(at_point(&short, (4, 8), None).steps, Some(6));
    }
}
