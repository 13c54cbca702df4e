//! `cargo xtask generate [--check]`: what documents say of kept results, made from the newest of them: the table of growth in
//! `docs/performance.md`, between two markers, and its picture `docs/growth.svg`.
//!
//! Measuring is `bench`'s business; prose is written by people and left alone.

mod plot;

use serde_json::Value;
use std::path::{Path, PathBuf};

const DOCUMENT: &str = "docs/performance.md";
const PICTURE: &str = "docs/growth.svg";
const BEGIN: &str = "<!-- made by `cargo xtask generate` -->";
const END: &str = "<!-- end of what is made -->";

/// One point of one series, with the best of its repeats.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// `rows`, `prompt`, `shared` or `threads`.
    pub series: String,
    /// Its place on the axis.
    pub x: f64,
    /// Rows a second of training.
    pub train: f64,
    /// Rows a second of evaluation.
    pub eval: f64,
    /// Share of the training's tokens that were computed.
    pub computed: f64,
    /// Tokens of a training row, on average.
    pub tokens: f64,
}

/// Writes what follows from the newest results, or with `check` says what is not as they say.
pub fn run(root: &Path, check: bool) -> Result<bool, String> {
    let Some(newest) = newest(root)? else {
        println!("there are no kept results of growth; cargo xtask bench growth makes them");
        return Ok(true);
    };
    let text = read(&newest)?;
    let kept: Value = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", newest.display()))?;
    let points = points(&kept)
        .ok_or_else(|| format!("{}: not the results of a growth benchmark", newest.display()))?;
    let source = newest.strip_prefix(root).unwrap_or(&newest).display().to_string().replace('\\', "/");
    let document = read(&root.join(DOCUMENT))?;
    let block = block(&points, &kept, &source);
    let changed = put(&document, &block)
        .ok_or_else(|| format!("{DOCUMENT}: expected a line `{BEGIN}` and a line `{END}`"))?;
    let mut same = true;
    for (name, want) in [(DOCUMENT, changed), (PICTURE, plot::svg(&points))] {
        let path = root.join(name);
        if std::fs::read_to_string(&path).is_ok_and(|found| found == want) {
            continue;
        }
        same = false;
        match check {
            true => println!("{name}: not what {source} gives; cargo xtask generate makes it"),
            false => {
                std::fs::write(&path, want).map_err(|e| format!("{name}: {e}"))?;
                println!("{name}");
            }
        }
    }
    Ok(same || !check)
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// The results of the folder that is last in the order of names, which begin with the date.
fn newest(root: &Path) -> Result<Option<PathBuf>, String> {
    let Ok(folders) = std::fs::read_dir(root.join("bench/runs")) else { return Ok(None) };
    let files = folders.filter_map(|folder| Some(folder.ok()?.path().join("growth.json")));
    Ok(files.filter(|file| file.is_file()).max())
}

/// The points of a kept file.
fn points(kept: &Value) -> Option<Vec<Point>> {
    let best =
        |list: &Value| list.as_array()?.iter().filter_map(|run| run["rows_per_s"].as_f64()).reduce(f64::max);
    let point = |value: &Value| {
        let tokens = |key: &str| value["train"][0][key].as_f64();
        Some(Point {
            series: value["series"].as_str()?.into(),
            x: value["x"].as_f64()?,
            train: best(&value["train"])?,
            eval: best(&value["eval"])?,
            computed: tokens("tree_tokens")? / tokens("flat_tokens")?,
            tokens: tokens("flat_tokens")? / value["rows"].as_f64()?,
        })
    };
    kept["results"].as_array()?.iter().map(point).collect()
}

/// What a series is called in a table, and how its axis is written.
fn label(point: &Point) -> String {
    match point.series.as_str() {
        "rows" => format!("{} rows", point.x),
        "prompt" => format!("prompts of {} words, nothing shared", point.x),
        "shared" => format!("{:.0} % of the prompt shared", 100.0 * point.x),
        _ => format!("{} {}", point.x, if point.x == 1.0 { "thread" } else { "threads" }),
    }
}

fn block(points: &[Point], kept: &Value, source: &str) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_string();
    let mut lines = vec![
        String::new(),
        format!("{}, {}, raw results in `{source}`; runs of each point: {}, the best counts.", text(&kept["date"]), text(&kept["machine"]),
            kept["settings"]["repeats"]),
        String::new(),
        "| | tokens a row | computed | trained, rows/s | against the first | evaluated, rows/s | against the first |".into(),
        "|---|---|---|---|---|---|---|".into(),
    ];
    let mut first: Option<&Point> = None;
    for point in points {
        let base = first.filter(|f| f.series == point.series).unwrap_or(point);
        first = Some(base);
        lines.push(format!(
            "| {} | {:.0} | {:.0} % | {:.1} | {:.2} | {:.1} | {:.2} |",
            label(point),
            point.tokens,
            100.0 * point.computed,
            point.train,
            point.train / base.train,
            point.eval,
            point.eval / base.eval
        ));
    }
    lines.extend([
        String::new(),
        "![How rows a second change with rows, prompt, shared share and threads](growth.svg)".into(),
    ]);
    lines.push(String::new());
    lines.join("\n")
}

/// `document` with `block` between the markers; `None` where it has none.
fn put(document: &str, block: &str) -> Option<String> {
    let start = document.find(BEGIN)? + BEGIN.len();
    let end = start + document[start..].find(END)?;
    Some(format!("{}\n{block}\n{}", &document[..start], &document[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_block_is_put_between_the_markers_and_nowhere_else() {
        let document = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let once = put(&document, "new").unwrap();
        assert_eq!(once, format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert_eq!(put(&once, "new").unwrap(), once);
        assert_eq!(put("no markers", "new"), None);
    }

    #[test]
    fn the_best_run_of_a_point_counts_and_ratios_are_of_the_first_of_its_series() {
        let point = |x, rates: [f64; 2]| {
            let run = |rate: f64| json!({"rows_per_s": rate, "flat_tokens": 100, "tree_tokens": 50});
            json!({"series": "threads", "x": x, "rows": 10, "train": [run(rates[0]), run(rates[1])], "eval": [run(8.0)]})
        };
        let kept = json!({"date": "d", "machine": "m", "settings": {"repeats": 2}, "results": [point(1, [3.0, 4.0]), point(2, [7.6, 5.0])]});
        let points = points(&kept).unwrap();
        assert_eq!((points[0].train, points[1].train, points[0].tokens), (4.0, 7.6, 10.0));
        let block = block(&points, &kept, "x.json");
        assert!(block.contains("| 2 threads | 10 | 50 % | 7.6 | 1.90 | 8.0 | 1.00 |"), "{block}");
        assert_eq!(super::points(&json!({"results": [{}]})), None);
    }
}
