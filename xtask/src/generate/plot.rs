//! Four small plots side by side: rows a second of training and evaluation over rows, prompt, shared share and threads.

use super::Point;

/// A panel's size and what is around its plot.
const WIDTH: f64 = 250.0;
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 40.0;
/// Series and what their axes are called.
const PANELS: [(&str, &str); 4] = [
    ("rows", "rows in all"),
    ("prompt", "words of a prompt, none shared"),
    ("shared", "share of the prompt that is shared"),
    ("threads", "threads"),
];
const STYLE: &str = "text{font:12px sans-serif;fill:#333}.t{font-weight:bold}.g{stroke:#ddd}.train{stroke:#1f5fa8;fill:#1f5fa8}\
    .eval{stroke:#b2571b;fill:#b2571b}polyline{fill:none!important;stroke-width:2}text.train,text.eval{stroke:none}";

/// The picture.
pub fn svg(points: &[Point]) -> String {
    let (width, height) = (WIDTH * PANELS.len() as f64, HEIGHT + 20.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"Rows a second of \
         training and evaluation\">\n<style>{STYLE}</style>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text class=\"t\" x=\"{LEFT}\" y=\"16\">rows a second</text><text class=\"train\" x=\"150\" y=\"16\">training</text>\
         <text class=\"eval\" x=\"210\" y=\"16\">evaluation</text>\n"
    );
    for (i, (series, name)) in PANELS.iter().enumerate() {
        let own: Vec<&Point> = points.iter().filter(|p| p.series == *series).collect();
        if !own.is_empty() {
            out.push_str(&panel(i as f64 * WIDTH, &own, name));
        }
    }
    out.push_str("</svg>\n");
    out
}

/// One plot with its left edge at `x`.
fn panel(x: f64, points: &[&Point], name: &str) -> String {
    let top = ceiling(points.iter().fold(0.0, |most: f64, p| most.max(p.train).max(p.eval)));
    let last = points.iter().fold(0.0, |most: f64, p| most.max(p.x));
    let across = |value: f64| x + LEFT + value / last * (WIDTH - LEFT - RIGHT);
    let up = |value: f64| TOP + (1.0 - value / top) * (HEIGHT - TOP - BOTTOM);
    let mut out = String::new();
    for part in 0..=4 {
        let value = top * f64::from(part) / 4.0;
        out.push_str(&format!(
            "<line class=\"g\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{value}</text>\n",
            across(0.0),
            across(last),
            across(0.0) - 5.0,
            up(value) + 4.0,
            y = up(value)
        ));
    }
    for (i, point) in points.iter().enumerate() {
        // Marks that lie too close to the one before have no room for a number.
        let crowded = i > 0 && i + 1 < points.len() && across(point.x) - across(points[i - 1].x) < 24.0;
        let text = if last <= 1.0 { format!("{:.0}", 100.0 * point.x) } else { point.x.to_string() };
        if !crowded {
            let unit = if last <= 1.0 { " %" } else { "" };
            out.push_str(&format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}{unit}</text>\n",
                across(point.x),
                HEIGHT - BOTTOM + 16.0
            ));
        }
    }
    type Rate = fn(&Point) -> f64;
    for (class, rate) in [("train", (|p: &Point| p.train) as Rate), ("eval", |p: &Point| p.eval)] {
        let places: Vec<(f64, f64)> = points.iter().map(|p| (across(p.x), up(rate(p)))).collect();
        let line: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        out.push_str(&format!("<polyline class=\"{class}\" points=\"{}\"/>\n", line.join(" ")));
        for (x, y) in places {
            out.push_str(&format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>\n"));
        }
    }
    out.push_str(&format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>\n",
        across(last / 2.0),
        HEIGHT - BOTTOM + 36.0
    ));
    out
}

/// The next round number whose quarters are short.
fn ceiling(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1e-9).log10().floor());
    let steps = [1.0, 2.0, 4.0, 6.0, 8.0, 10.0];
    power * steps.into_iter().find(|step| value <= step * power).unwrap_or(10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_has_its_panel_and_its_points() {
        let point = |series: &str, x| Point {
            series: series.into(),
            x,
            train: x + 1.0,
            eval: 2.0,
            computed: 1.0,
            tokens: 9.0,
        };
        let picture =
            svg(&[point("rows", 16.0), point("rows", 160.0), point("threads", 1.0), point("threads", 2.0)]);
        assert_eq!(picture.matches("<polyline").count(), 4, "two lines in each of two panels");
        assert_eq!(picture.matches("<circle").count(), 8);
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
        assert_eq!([0.3, 1.0, 17.0, 61.0].map(ceiling), [0.4, 1.0, 20.0, 80.0]);
    }
}
