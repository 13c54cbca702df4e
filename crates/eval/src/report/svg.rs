//! The loss curve as an SVG that takes its colours from the page: every step as a faint line, their moving mean as a
//! strong one. Only numbers go into it, so there is nothing to escape.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
/// Room for the numbers at the left and below, and so that the line's ends are not cut.
const LEFT: f64 = 44.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 34.0;

/// The curve of `points` (step, loss); numbers that are not finite are left out. `None` for fewer than two points.
pub(super) fn loss_curve(points: &[(u64, f64)]) -> Option<String> {
    let points: Vec<(f64, f64)> = points
        .iter()
        .filter(|(_, loss)| loss.is_finite())
        .map(|(step, loss)| (*step as f64, *loss))
        .collect();
    let (first, last) = (points.first()?.0, points.last()?.0);
    if points.len() < 2 || last <= first {
        return None;
    }
    let highest = points.iter().map(|(_, loss)| *loss).fold(f64::MIN, f64::max);
    let lowest = points.iter().map(|(_, loss)| *loss).fold(0.0, f64::min);
    let y_ticks = ticks(lowest, highest, 4);
    let (bottom, top) = (y_ticks[0], y_ticks[y_ticks.len() - 1]);
    let x = |step: f64| LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT);
    let y = |loss: f64| HEIGHT - BOTTOM - (loss - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg class=\"curve\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Training loss by step, from {:.3} to {:.3}\">",
        points[0].1,
        points[points.len() - 1].1
    );
    for tick in &y_ticks {
        let (at, text) = (y(*tick), label(*tick, y_ticks[1] - y_ticks[0]));
        put(
            &mut svg,
            &format!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>",
                WIDTH - RIGHT
            ),
        );
        put(
            &mut svg,
            &format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>", LEFT - 8.0, at + 4.0),
        );
    }
    for tick in step_ticks(first, last) {
        let (at, low) = (x(tick), HEIGHT - BOTTOM + 18.0);
        put(&mut svg, &format!("<text x=\"{at:.1}\" y=\"{low}\" text-anchor=\"middle\">{tick}</text>"));
    }
    let path = |points: &[(f64, f64)]| {
        points
            .iter()
            .map(|(step, loss)| format!("{:.1},{:.1}", x(*step), y(*loss)))
            .collect::<Vec<_>>()
            .join(" ")
    };
    put(&mut svg, &format!("<polyline class=\"raw\" points=\"{}\"/>", path(&points)));
    put(&mut svg, &format!("<polyline class=\"mean\" points=\"{}\"/>", path(&moving_mean(&points))));
    put(&mut svg, "</svg>");
    Some(svg)
}

fn put(svg: &mut String, part: &str) {
    // Writing to a `String` cannot fail.
    let _ = svg.write_str(part);
}

/// The mean over a window of about a twentieth of the curve on either side.
fn moving_mean(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = (points.len() / 40).max(1);
    (0..points.len())
        .map(|i| {
            // The window shrinks evenly at the ends, so that the line starts and ends where the curve does.
            let reach = reach.min(i).min(points.len() - 1 - i);
            let window = &points[i - reach..=i + reach];
            (points[i].0, window.iter().map(|(_, loss)| loss).sum::<f64>() / window.len() as f64)
        })
        .collect()
}

/// Round numbers from at or below `low` to at or above `high`, about `count` apart; at least two.
pub(super) fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let span = if high > low { high - low } else { 1.0 };
    let raw = span / count as f64;
    let unit = 10f64.powf(raw.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * unit).find(|step| *step >= raw).unwrap_or(unit * 10.0);
    let (from, to) = ((low / step).floor(), (high / step).ceil().max((low / step).floor() + 1.0));
    (0..=(to - from) as usize).map(|i| (from + i as f64) * step).collect()
}

/// Round steps inside the curve, and its first step unless it stands too close to the next.
fn step_ticks(first: f64, last: f64) -> Vec<f64> {
    let mut inside = ticks(first, last, 6);
    inside.retain(|tick| (first..=last).contains(tick) && tick.fract() == 0.0);
    if inside.first().is_none_or(|next| next - first > (last - first) / 12.0) {
        inside.insert(0, first);
    }
    inside
}

fn label(value: f64, step: f64) -> String {
    let digits = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_stays_inside_its_frame() {
        let points: Vec<(u64, f64)> = (1..=200).map(|i| (i, 3.0 / i as f64 + 0.1)).collect();
        let svg = loss_curve(&points).unwrap();
        assert_eq!(svg.matches("<polyline").count(), 2);
        let path = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        for pair in path.split(' ') {
            let (x, y) = pair.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y), "{pair}");
        }
    }

    #[test]
    fn little_equal_negative_and_broken_numbers_are_drawn_or_left_out() {
        assert_eq!(loss_curve(&[]), None);
        assert_eq!(loss_curve(&[(1, 2.0)]), None);
        assert_eq!(loss_curve(&[(1, f64::NAN), (2, 1.0)]), None);
        for points in [
            [(1, 0.0), (2, 0.0)],
            [(1, 5.0), (2, 5.0)],
            [(0, -1.0), (9, 1e-9)],
            [(1, 1e12), (2, f64::INFINITY)],
        ] {
            let svg = loss_curve(&points);
            assert!(svg.is_none_or(|svg| !svg.contains("NaN") && !svg.contains("inf")), "{points:?}");
        }
    }

    #[test]
    fn ticks_are_round_and_cover_the_range() {
        assert_eq!(ticks(0.0, 3.1, 4), [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(ticks(0.0, 0.0, 4), [0.0, 0.5]);
        assert_eq!(ticks(1.0, 66.0, 6), [0.0, 20.0, 40.0, 60.0, 80.0]);
    }
}
