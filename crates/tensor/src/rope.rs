//! Rotary position embedding (Su et al. 2021, arXiv 2104.09864) in the half-split layout of the Hugging Face models:
//! value `i` of a head turns together with value `i + D/2`.

/// Cosines and sines of a batch: `[T, D/2]` each, in the order of its rows.
#[derive(Clone, Debug)]
pub struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl Angles {
    /// For rows at `positions`, with the D/2 inverse `frequencies` of the model.
    pub fn new(positions: &[usize], frequencies: &[f32]) -> Self {
        let angles = positions.iter().flat_map(|&p| frequencies.iter().map(move |f| p as f32 * f));
        let (sin, cos) = angles.map(f32::sin_cos).unzip();
        Angles { cos, sin, half: frequencies.len() }
    }

    /// Turns every head of row `row` of the batch in place: `values` are `[heads · D]`.
    pub fn rotate(&self, values: &mut [f32], row: usize, turn: Turn) {
        let place = row * self.half..(row + 1) * self.half;
        let sign = if turn == Turn::Forward { 1.0 } else { -1.0 };
        rotate_row(values, &self.cos[place.clone()], &self.sin[place], sign);
    }
}

/// Which way to turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// By the position: the forward pass.
    Forward,
    /// Back: the gradient of the forward pass.
    Backward,
}

crate::dispatched! {
    /// Turns the heads of one row; `cos` and `sin` are `[D/2]`.
    pub fn rotate_row / rotate_row_on (row: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
        let half = cos.len();
        assert_eq!(sin.len(), half);
        for head in row.chunks_exact_mut(2 * half) {
            let (low, high) = head.split_at_mut(half);
            for i in 0..half {
                let (a, b, s) = (low[i], high[i], sign * sin[i]);
                low[i] = a * cos[i] - b * s;
                high[i] = b * cos[i] + a * s;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_keeps_length_and_a_turn_back_undoes_it() {
        let angles = Angles::new(&[0, 5], &[1.0, 0.25]);
        let x: Vec<f32> = (0..16).map(|i| i as f32 - 7.0).collect();
        let mut y = x.clone();
        let turn_rows = |y: &mut [f32], turn| {
            y.chunks_exact_mut(8).enumerate().for_each(|(row, y)| angles.rotate(y, row, turn));
        };
        turn_rows(&mut y, Turn::Forward);
        assert_eq!(y[..8], x[..8], "position 0 stays");
        let (a, b) = (x[8], x[10]);
        assert!((y[8] - (a * 5f32.cos() - b * 5f32.sin())).abs() < 1e-5);
        assert!((y[10] - (b * 5f32.cos() + a * 5f32.sin())).abs() < 1e-5);
        turn_rows(&mut y, Turn::Backward);
        for i in 0..16 {
            assert!((y[i] - x[i]).abs() < 1e-5);
        }
    }
}
