//! Quality against speed and against size as SVG that takes its colours from the page: a dot a candidate, its interval as
//! a line. The horizontal axis is logarithmic. Roles are the only texts of others on it, and they are escaped.

use super::words::{megabytes, short};
use super::{CandidateResult, ReportData};
use crate::statistics::Unit;
use std::fmt::Write;

const WIDTH: f64 = 430.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;

/// One candidate on a plot.
struct Dot<'a> {
    role: &'a str,
    x: f64,
    y: f64,
    low: f64,
    high: f64,
    subject: bool,
}

/// What stands on the horizontal axis.
#[derive(Clone, Copy, PartialEq)]
enum Axis {
    Speed,
    Size,
}

/// Score against samples a second, where two candidates or more have both.
pub(super) fn speed(data: &ReportData) -> Option<String> {
    plot(Axis::Speed, unit(data), &dots(data, |candidate| candidate.evaluation.rows_per_s))
}

/// Score against bytes on disk, where two candidates or more have both.
pub(super) fn size(data: &ReportData) -> Option<String> {
    plot(Axis::Size, unit(data), &dots(data, |candidate| candidate.bytes.map(|bytes| bytes as f64)))
}

fn unit(data: &ReportData) -> Unit {
    let score = data.candidates.get(data.subject).and_then(|c| c.evaluation.metrics.get(&data.task.score));
    score.map(|score| score.unit).unwrap_or_default()
}

fn dots(data: &ReportData, x: impl Fn(&CandidateResult) -> Option<f64>) -> Vec<Dot<'_>> {
    let dot = |(index, candidate): (usize, &'_ CandidateResult)| {
        let estimate = candidate.evaluation.metrics.get(&data.task.score)?;
        let y = estimate.value.filter(|y| y.is_finite())?;
        let x = x(candidate).filter(|x| x.is_finite() && *x > 0.0)?;
        Some((index, x, y, estimate.low.unwrap_or(y), estimate.high.unwrap_or(y)))
    };
    data.candidates
        .iter()
        .enumerate()
        .filter_map(dot)
        .map(|(index, x, y, low, high)| Dot {
            role: &data.candidates[index].role,
            x,
            y,
            low,
            high,
            subject: index == data.subject,
        })
        .collect()
}

fn plot(axis: Axis, unit: Unit, dots: &[Dot<'_>]) -> Option<String> {
    if dots.len() < 2 {
        return None;
    }
    let (least, most) = dots.iter().fold((f64::MAX, f64::MIN), |(a, b), dot| (a.min(dot.x), b.max(dot.x)));
    let (from, to) = (least.log10() - 0.25, most.log10() + 0.25);
    let bottom = dots.iter().map(|dot| dot.low).fold(0.0, f64::min);
    let top = dots.iter().map(|dot| dot.high).fold(1.0, f64::max);
    let x = |value: f64| LEFT + (value.log10() - from) / (to - from) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - (value - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM);
    let title =
        if axis == Axis::Speed { "Score against samples a second" } else { "Score against size on disk" };
    let mut svg = format!(
        "<svg class=\"scatter\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">"
    );
    // Writing to a `String` cannot fail.
    for step in 0..=4 {
        let value = bottom + (top - bottom) * f64::from(step) / 4.0;
        let at = y(value);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0,
            if unit == Unit::Share { short((value * 1000.0).round() / 10.0) } else { unit.value(value) }
        );
    }
    for tick in ticks(from, to) {
        let text = if axis == Axis::Speed { short(tick) } else { megabytes(tick) };
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>",
            x(tick),
            HEIGHT - BOTTOM + 18.0
        );
    }
    let words = if axis == Axis::Speed { "samples a second" } else { "size on disk" };
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    let _ = write!(svg, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{words}</text>", HEIGHT - 6.0);
    // A label may hide no dot, neither its own nor another one.
    let mut taken: Vec<Area> = dots.iter().map(|dot| Area::of_dot(x(dot.x), y(dot.y))).collect();
    for dot in dots {
        put_dot(&mut svg, dot, (x(dot.x), y(dot.y)), (y(dot.low), y(dot.high)), &mut taken);
    }
    svg.push_str("</svg>");
    Some(svg)
}

/// A part of the plot, in its pixels.
#[derive(Clone, Copy, Debug)]
struct Area {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Area {
    /// A dot and its rim.
    fn of_dot(x: f64, y: f64) -> Self {
        Area { left: x - 6.0, right: x + 6.0, top: y - 6.0, bottom: y + 6.0 }
    }

    fn meets(&self, other: &Area) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    fn is_inside(&self) -> bool {
        self.left >= LEFT && self.right <= WIDTH && self.top >= 0.0 && self.bottom <= HEIGHT - BOTTOM + 3.0
    }
}

/// Where the name of a dot stands.
struct Label {
    /// Where it begins, or ends.
    x: f64,
    y: f64,
    leftwards: bool,
    area: Area,
}

impl Label {
    /// On the side of the dot with more room, else on the other one, and down or up where neither is free.
    fn beside((x, y): (f64, f64), characters: usize, taken: &[Area]) -> Self {
        let width = 7.0 * characters as f64;
        let place = |leftwards: bool, away: f64| {
            let (x, y) = (if leftwards { x - 9.0 } else { x + 9.0 }, y + 4.0 + away);
            let left = if leftwards { x - width } else { x };
            let area = Area { left, right: left + width, top: y - 10.0, bottom: y + 3.0 };
            Label { x, y, leftwards, area }
        };
        let side = x > WIDTH * 0.6;
        let lines = (0..8).flat_map(|i| [14.0 * f64::from(i), -14.0 * f64::from(i)]);
        let mut places = lines.flat_map(|away| [place(side, away), place(!side, away)]);
        let free =
            |label: &Label| label.area.is_inside() && !taken.iter().any(|other| label.area.meets(other));
        places.find(free).unwrap_or_else(|| place(side, 0.0))
    }
}

fn put_dot(
    svg: &mut String,
    dot: &Dot<'_>,
    (x, y): (f64, f64),
    (low, high): (f64, f64),
    taken: &mut Vec<Area>,
) {
    let class = if dot.subject { "subject" } else { "other" };
    let role = shortened(dot.role);
    let label = Label::beside((x, y), role.chars().count(), taken);
    taken.push(label.area);
    let anchor = if label.leftwards { "end" } else { "start" };
    let _ = write!(
        svg,
        "<g class=\"{class}\"><line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\"/>\
         <circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text></g>",
        label.x,
        label.y,
        escaped(&role)
    );
}

/// Powers of ten inside the axis, with 2 and 5 between them where they are few.
fn ticks(from: f64, to: f64) -> Vec<f64> {
    let steps: &[f64] = match to - from {
        wide if wide > 3.0 => &[1.0],
        wide if wide > 1.2 => &[1.0, 3.0],
        _ => &[1.0, 2.0, 5.0],
    };
    let powers = (from.floor() as i32)..=(to.ceil() as i32);
    let all = powers.flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
    all.filter(|tick| (from..=to).contains(&tick.log10())).collect()
}

/// The first characters of a text, those for control as their pictures.
fn shortened(text: &str) -> String {
    crate::check::shorten(&super::words::pictured(text), 24)
}

pub(super) fn escaped(text: &str) -> String {
    shortened(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(role: &str, x: f64, y: f64) -> Dot<'_> {
        Dot { role, x, y, low: y - 0.05, high: (y + 0.05).min(1.0), subject: role == "tuned" }
    }

    #[test]
    fn dots_stay_inside_and_texts_are_escaped() {
        let dots = [dot("<b>base</b>", 0.5, 0.2), dot("tuned", 0.5, 0.21), dot("linear", 4000.0, 0.9)];
        let svg = plot(Axis::Speed, Unit::Share, &dots).unwrap();
        assert!(svg.contains("&lt;b&gt;base") && !svg.contains("<b>"));
        assert_eq!((svg.matches("<circle").count(), svg.matches("class=\"subject\"").count()), (3, 1));
        for part in svg.split("cx=\"").skip(1) {
            let x: f64 = part.split('"').next().unwrap().parse().unwrap();
            assert!((LEFT..=WIDTH - RIGHT).contains(&x), "{x}");
        }
        assert!(plot(Axis::Size, Unit::Share, &dots[..1]).is_none() && !svg.contains("NaN"));
    }

    #[test]
    fn labels_hide_neither_dots_nor_each_other() {
        let crowd = [(200.0, 100.0), (215.0, 103.0), (206.0, 96.0), (330.0, 99.0), (420.0, 30.0)];
        let mut taken: Vec<Area> = crowd.iter().map(|&(x, y)| Area::of_dot(x, y)).collect();
        for &place in &crowd {
            let label = Label::beside(place, "constrained".len(), &taken);
            assert!(label.area.is_inside(), "{:?}", label.area);
            assert!(!taken.iter().any(|other| label.area.meets(other)), "{:?} in {taken:?}", label.area);
            taken.push(label.area);
        }
        assert!(
            Label::beside((420.0, 30.0), 11, &[]).leftwards
                && !Label::beside((60.0, 30.0), 11, &[]).leftwards
        );
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(-0.5, 0.5), [0.5, 1.0, 2.0]);
        assert_eq!(ticks(0.0, 4.0), [1.0, 10.0, 100.0, 1000.0, 10_000.0]);
    }
}
