//! L-BFGS (Nocedal and Wright, "Numerical Optimization", algorithm 7.4) with a bisecting line search for the weak Wolfe
//! conditions (Lewis and Overton 2013). For smooth convex functions; what is minimised is `logistic`'s.

use std::collections::VecDeque;

/// Pairs of steps and gradient changes that are remembered.
const MEMORY: usize = 10;
/// Function values that one line search may ask for.
const SEARCH: usize = 40;
/// Sufficient decrease.
const ARMIJO: f64 = 1e-4;
/// Sufficient flattening of the slope.
const WOLFE: f64 = 0.9;

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stop {
    /// Largest absolute value of a gradient entry at the minimum.
    pub gradient: f64,
    /// At most so many steps.
    pub steps: usize,
}

/// Minimises `f` from `x`, which becomes the minimum. `f(x, gradient)` fills the gradient and gives the value. Returns
/// the number of steps.
pub fn minimise(x: &mut [f64], f: &mut dyn FnMut(&[f64], &mut [f64]) -> f64, stop: Stop) -> usize {
    let n = x.len();
    let mut gradient = vec![0.0; n];
    let mut value = f(x, &mut gradient);
    let mut pairs: VecDeque<Pair> = VecDeque::new();
    for step in 0..stop.steps {
        if gradient.iter().all(|g| g.abs() <= stop.gradient) {
            return step;
        }
        let direction = direction(&gradient, &pairs);
        let first = if pairs.is_empty() { 1.0 / dot(&gradient, &gradient).sqrt().max(1.0) } else { 1.0 };
        let start = Point { x, value, gradient: &gradient };
        let Some(next) = search(&start, &direction, first, f) else { return step };
        let moved: Vec<f64> = next.0.iter().zip(x.iter()).map(|(new, old)| new - old).collect();
        let change: Vec<f64> = next.2.iter().zip(&gradient).map(|(new, old)| new - old).collect();
        let curvature = dot(&moved, &change);
        if curvature > 0.0 {
            if pairs.len() == MEMORY {
                pairs.pop_front();
            }
            pairs.push_back(Pair { moved, change, curvature });
        }
        x.copy_from_slice(&next.0);
        (value, gradient) = (next.1, next.2);
    }
    stop.steps
}

/// A remembered step.
struct Pair {
    moved: Vec<f64>,
    change: Vec<f64>,
    curvature: f64,
}

/// Where a line search starts.
struct Point<'a> {
    x: &'a [f64],
    value: f64,
    gradient: &'a [f64],
}

/// The two-loop recursion: minus the inverse Hessian, as the pairs know it, times the gradient.
fn direction(gradient: &[f64], pairs: &VecDeque<Pair>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut factors = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let factor = dot(&pair.moved, &q) / pair.curvature;
        add(&mut q, -factor, &pair.change);
        factors.push(factor);
    }
    if let Some(last) = pairs.back() {
        let scale = last.curvature / dot(&last.change, &last.change);
        q.iter_mut().for_each(|value| *value *= scale);
    }
    for (pair, factor) in pairs.iter().zip(factors.iter().rev()) {
        let back = dot(&pair.change, &q) / pair.curvature;
        add(&mut q, factor - back, &pair.moved);
    }
    q
}

/// A step along `direction`: the new point, its value and its gradient; `None` where no step gets lower any more, which
/// happens within rounding of the minimum.
fn search(
    start: &Point<'_>,
    direction: &[f64],
    first: f64,
    f: &mut dyn FnMut(&[f64], &mut [f64]) -> f64,
) -> Option<(Vec<f64>, f64, Vec<f64>)> {
    let slope = dot(start.gradient, direction);
    if slope >= 0.0 {
        return None;
    }
    let (mut low, mut high, mut length) = (0.0, f64::INFINITY, first);
    let mut gradient = vec![0.0; start.x.len()];
    for _ in 0..SEARCH {
        let mut x = start.x.to_vec();
        add(&mut x, length, direction);
        let value = f(&x, &mut gradient);
        // Not finite counts as too far.
        if value.is_nan() || value > start.value + ARMIJO * length * slope {
            high = length;
        } else if dot(&gradient, direction) < WOLFE * slope {
            low = length;
        } else {
            return Some((x, value, gradient));
        }
        length = if high.is_finite() { (low + high) / 2.0 } else { 2.0 * length };
    }
    None
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Four sums at once, always in the same order.
    let mut sums = [0.0; 4];
    let (a4, b4) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest: f64 = a4.remainder().iter().zip(b4.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a4.zip(b4) {
        (0..4).for_each(|lane| sums[lane] += a[lane] * b[lane]);
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

fn add(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_badly_scaled_quadratic_is_solved() {
        let scales = [1.0, 10.0, 100.0, 1000.0, 0.1];
        let mut f = |x: &[f64], g: &mut [f64]| {
            let mut value = 0.0;
            for (i, scale) in scales.iter().enumerate() {
                let apart = x[i] - i as f64;
                g[i] = scale * apart;
                value += 0.5 * scale * apart * apart;
            }
            value
        };
        let mut x = vec![5.0; 5];
        let steps = minimise(&mut x, &mut f, Stop { gradient: 1e-10, steps: 200 });
        assert!(steps < 60, "{steps}");
        for (i, x) in x.iter().enumerate() {
            assert!((x - i as f64).abs() < 1e-8, "[{i}] {x}");
        }
    }

    #[test]
    fn it_stops_at_the_bound_and_at_a_flat_place() {
        let mut parabola = |x: &[f64], g: &mut [f64]| {
            g[0] = x[0].sinh();
            x[0].cosh()
        };
        let mut x = vec![30.0];
        assert_eq!(minimise(&mut x, &mut parabola, Stop { gradient: 0.0, steps: 1 }), 1);
        assert!(x[0] < 30.0);
        assert_eq!(minimise(&mut [0.0], &mut parabola, Stop { gradient: 1e-9, steps: 9 }), 0);
    }
}
