//! Learning curves as SVG that takes its colours from the page: the score after learning from more and more rows, a dot a
//! point with its interval, the fitted law as a line with its band, and twice the rows at the right. The horizontal axis is
//! logarithmic. Roles are the only texts of others on it, and they are escaped.

use super::scatter::escaped;
use super::words::grouped;
use crate::advise::LearningCurve;
use crate::statistics::Unit;
use std::fmt::Write;

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 116.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 48.0;
/// Labels closer than this are pushed apart.
const LINE: f64 = 16.0;

/// A candidate that does not learn from more rows: a level across the picture.
pub(crate) struct Level<'a> {
    /// What it is called.
    pub role: &'a str,
    /// Its score.
    pub score: f64,
}

/// Where things lie.
struct Frame {
    from: f64,
    to: f64,
    bottom: f64,
    top: f64,
}

impl Frame {
    fn x(&self, rows: f64) -> f64 {
        LEFT + (rows.ln() - self.from.ln()) / (self.to.ln() - self.from.ln()) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, score: f64) -> f64 {
        let share = ((score - self.bottom) / (self.top - self.bottom)).clamp(0.0, 1.0);
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }
}

/// The picture; `None` where no curve has two points. The first curve is the subject.
pub(crate) fn picture(curves: &[LearningCurve], levels: &[Level<'_>]) -> Option<String> {
    let drawn: Vec<&LearningCurve> = curves.iter().filter(|curve| known(curve).len() > 1).collect();
    let frame = frame(&drawn, levels)?;
    let unit = drawn.first()?.points.first()?.score.unit;
    let mut svg = format!(
        "<svg class=\"learning\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Score by training rows\">"
    );
    axes(&mut svg, &frame, &drawn, unit);
    let mut labels: Vec<(f64, String, &'static str)> = Vec::new();
    for level in levels {
        let y = frame.y(level.score);
        // Writing to a `String` cannot fail.
        let _ = write!(
            svg,
            "<line class=\"level\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
            WIDTH - RIGHT
        );
        labels.push((y, escaped(level.role), "level"));
    }
    for (index, curve) in drawn.iter().enumerate().rev() {
        let class = if index == 0 { "subject" } else { "other" };
        labels.push((put_curve(&mut svg, &frame, curve, class), escaped(&curve.role), class));
    }
    put_labels(&mut svg, labels);
    svg.push_str("</svg>");
    Some(svg)
}

/// Rows, score and interval of the points that have a score.
fn known(curve: &LearningCurve) -> Vec<(f64, f64, f64, f64)> {
    let point = |point: &crate::advise::CurvePoint| {
        let value = point.score.value.filter(|value| value.is_finite())?;
        let (low, high) = (point.score.low.unwrap_or(value), point.score.high.unwrap_or(value));
        (point.rows > 0).then_some((point.rows as f64, value, low, high))
    };
    curve.points.iter().filter_map(point).collect()
}

fn frame(drawn: &[&LearningCurve], levels: &[Level<'_>]) -> Option<Frame> {
    let points: Vec<_> = drawn.iter().flat_map(|curve| known(curve)).collect();
    let fitted = drawn.iter().flat_map(|curve| &curve.fitted);
    let rows = || points.iter().map(|p| p.0).chain(fitted.clone().map(|f| f.rows));
    let (from, to) = (rows().fold(f64::MAX, f64::min), rows().fold(f64::MIN, f64::max));
    if points.is_empty() || to <= from || from < 1.0 {
        return None;
    }
    let ends = points.iter().flat_map(|p| [p.2, p.3]).chain(levels.iter().map(|level| level.score));
    let ends: Vec<f64> = ends.chain(fitted.clone().map(|f| f.score)).collect();
    let (low, high) =
        (ends.iter().fold(f64::MAX, |a, b| a.min(*b)), ends.iter().fold(f64::MIN, |a, b| a.max(*b)));
    // Shares keep a bit of room but never leave 0 to 1; steps of a twentieth are easy to read.
    let step = 0.05;
    let (mut bottom, mut top) = ((low / step).floor() * step, (high / step).ceil() * step);
    if (0.0..=1.0).contains(&low) && high <= 1.0 {
        (bottom, top) = (bottom.max(0.0), top.min(1.0));
    }
    Some(Frame { from, to, bottom, top: if top > bottom { top } else { bottom + step } })
}

fn axes(svg: &mut String, frame: &Frame, drawn: &[&LearningCurve], unit: Unit) {
    for tick in super::svg::ticks(frame.bottom, frame.top, 5)
        .into_iter()
        .filter(|t| (frame.bottom - 1e-9..=frame.top + 1e-9).contains(t))
    {
        let at = frame.y(tick);
        let text = match unit {
            Unit::Share => super::words::short((tick * 1000.0).round() / 10.0),
            Unit::Number => unit.value(tick),
        };
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0
        );
    }
    let mut rows: Vec<usize> = drawn.iter().flat_map(|c| &c.points).map(|point| point.rows).collect();
    rows.extend(drawn.iter().filter_map(|curve| curve.doubled.as_ref()).map(|doubled| doubled.rows));
    rows.sort_unstable();
    rows.dedup();
    let mut last = f64::MIN;
    // From the right, where the numbers matter most; one that would touch its neighbour is left out.
    let mut texts = Vec::new();
    for count in rows.iter().rev() {
        let x = frame.x(*count as f64);
        if last == f64::MIN || last - x > 58.0 {
            texts.push((x, grouped(*count as u64)));
            last = x;
        }
    }
    for (x, text) in texts {
        let _ = write!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
            HEIGHT - BOTTOM + 20.0
        );
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    let _ = write!(
        svg,
        "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">training rows</text>",
        HEIGHT - 6.0
    );
}

/// Draws one curve; gives the height at which it ends.
fn put_curve(svg: &mut String, frame: &Frame, curve: &LearningCurve, class: &str) -> f64 {
    let _ = write!(svg, "<g class=\"{class}\">");
    let points = known(curve);
    let most = points.iter().map(|p| p.0).fold(1.0, f64::max);
    let at = |rows: f64, score: f64| format!("{:.1},{:.1}", frame.x(rows), frame.y(score));
    let join = |list: Vec<String>| list.join(" ");
    let mut end = points.last().map_or(frame.y(0.0), |point| frame.y(point.1));
    if curve.fitted.len() > 1 {
        let upper = curve.fitted.iter().map(|f| at(f.rows, f.high));
        let lower = curve.fitted.iter().rev().map(|f| at(f.rows, f.low));
        let _ = write!(svg, "<polygon points=\"{}\"/>", join(upper.chain(lower).collect()));
        let law = curve.law;
        let score = |rows: f64| law.map_or(0.0, |law| 1.0 - law.error(rows));
        let inside = curve.fitted.iter().filter(|f| f.rows < most).map(|f| at(f.rows, f.score));
        let inside = inside.chain([at(most, score(most))]);
        let _ = write!(svg, "<polyline points=\"{}\"/>", join(inside.collect()));
        let beyond = curve.fitted.iter().filter(|f| f.rows > most).map(|f| at(f.rows, f.score));
        let beyond = [at(most, score(most))].into_iter().chain(beyond);
        let _ = write!(svg, "<polyline class=\"beyond\" points=\"{}\"/>", join(beyond.collect()));
        end = curve.fitted.last().map_or(end, |f| frame.y(f.score));
    } else {
        let line = points.iter().map(|point| at(point.0, point.1)).collect();
        let _ = write!(svg, "<polyline points=\"{}\"/>", join(line));
    }
    for (rows, value, low, high) in points {
        let x = frame.x(rows);
        let _ = write!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"4.5\"/>",
            frame.y(low),
            frame.y(high),
            frame.y(value)
        );
    }
    svg.push_str("</g>");
    end
}

/// Labels at the right end of their lines, pushed apart where they would touch.
fn put_labels(svg: &mut String, mut labels: Vec<(f64, String, &'static str)>) {
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut last = f64::MIN;
    for label in &mut labels {
        label.0 = label.0.max(last + LINE);
        last = label.0;
    }
    let over = last - (HEIGHT - BOTTOM);
    for (y, text, class) in labels {
        let y = if over > 0.0 { y - over } else { y };
        let _ = write!(
            svg,
            "<text class=\"name {class}\" x=\"{:.1}\" y=\"{:.1}\">{text}</text>",
            WIDTH - RIGHT + 10.0,
            y + 4.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::{CurvePoint, Doubled, Fitted, PowerLaw};
    use crate::statistics::rate;

    fn curve(role: &str, law: bool) -> LearningCurve {
        let known = PowerLaw { floor: 0.1, scale: 2.0, rate: 0.4 };
        let score = |rows: f64| 1.0 - known.error(rows);
        let point =
            |rows: usize| CurvePoint { rows, score: rate((100.0 * score(rows as f64)) as usize, 100) };
        let fitted = |i: usize| {
            let rows = 50.0 * 2f64.powi(i as i32);
            Fitted { rows, score: score(rows), low: score(rows) - 0.05, high: score(rows) + 0.05 }
        };
        LearningCurve {
            role: role.into(),
            points: [50, 100, 250, 500, 1000].map(point).to_vec(),
            law: law.then_some(known),
            fitted: if law { (0..6).map(fitted).collect() } else { vec![] },
            doubled: law.then(|| Doubled {
                rows: 2000,
                score: score(2000.0),
                gain: 0.02,
                low: Some(0.0),
                high: Some(0.04),
                reason: None,
            }),
            reason: None,
        }
    }

    #[test]
    fn curves_stay_inside_and_texts_are_escaped() {
        let curves = [curve("tuned", true), curve("<b>linear</b>", false)];
        let svg = picture(&curves, &[Level { role: "few-shot", score: 0.4 }]).unwrap();
        assert!(svg.contains("&lt;b&gt;linear") && !svg.contains("<b>"));
        assert_eq!((svg.matches("<circle").count(), svg.matches("class=\"level\"").count()), (10, 1));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        for part in svg.split("points=\"").skip(1) {
            for pair in part.split('"').next().unwrap().split(' ') {
                let (x, y) = pair.split_once(',').unwrap();
                assert!((LEFT - 0.1..=WIDTH - RIGHT + 0.1).contains(&x.parse::<f64>().unwrap()), "{pair}");
                assert!((TOP - 0.1..=HEIGHT - BOTTOM + 0.1).contains(&y.parse::<f64>().unwrap()), "{pair}");
            }
        }
    }

    #[test]
    fn one_point_is_no_curve() {
        let mut one = curve("tuned", false);
        one.points.truncate(1);
        assert!(picture(&[one], &[]).is_none() && picture(&[], &[]).is_none());
    }
}
