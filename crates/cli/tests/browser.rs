//! The report and the viewer in a real browser: they open without an error, fast, show what is given as text, filter and
//! search, mark what differs, switch between light and dark, fit a telephone, and show what is going on. Without a chromium
//! the tests leave themselves out with a line; with UNDERDOG_REQUIRE_CHROMIUM they fail.
//! UNDERDOG_SCREENSHOTS=FOLDER keeps pictures to be looked at.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests may panic and say what they left out")]

use serde_json::json;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use underdog_eval::mock::MockModel;
use underdog_eval::report::{CandidateResult, ReportData};
use underdog_eval::split::{EvalSet, ReadOptions, Split};
use underdog_eval::{EvalSettings, Evaluation, Task, evaluate};

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
const HOSTILE: &str =
    "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">";
const LABELS: [&str; 4] = ["refund", "late delivery", "account", "complaint"];
/// An answer beside each label that has some of its words, or more.
const ALMOST: [&str; 4] = ["refund please", "late parcel", "my account", "a complaint"];
const SAMPLES: usize = 5_000;
const TASK: &str = r#"
version = 1
name = "mail"
description = "Which desk a message belongs to."
max_new_tokens = 8
score = "right"
[prompt]
system = "Name the desk."
[data]
test = "test.jsonl"
[[check]]
name = "right"
kind = "exact"
[[check]]
name = "short"
kind = "length"
unit = "characters"
max = 40
[[metric]]
name = "right"
checks = ["right"]
description = "Right desk"
[[metric]]
name = "short"
checks = ["short"]
"#;

/// The browser; `None` (said in a line) where there is none.
fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|folder| NAMES.map(|name| folder.join(name)))
        .find(|file| file.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("UNDERDOG_REQUIRE_CHROMIUM").is_none(),
            "there is no chromium; expected one"
        );
        // Not by `println!`: of a test that passes, the test runner shows no line.
        let _ = writeln!(std::io::stderr(), "left out: no chromium");
    }
    found
}

/// Opens `url` and gives the document as it stands then, and what the console said.
fn open(browser: &Path, url: &str, more: &[&str]) -> (String, String) {
    let profile = tempfile::tempdir().unwrap();
    let done = Command::new(browser)
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--no-first-run",
        ])
        .arg("--disable-dev-shm-usage")
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(more)
        .arg("--dump-dom")
        .arg(url)
        .output()
        .unwrap();
    let console = String::from_utf8_lossy(&done.stderr);
    let console: Vec<&str> = console.lines().filter(|line| line.contains("CONSOLE")).collect();
    (String::from_utf8_lossy(&done.stdout).into_owned(), console.join("\n"))
}

fn screenshot(browser: &Path, url: &str, name: &str, more: &[&str]) {
    let Some(folder) = std::env::var_os("UNDERDOG_SCREENSHOTS") else { return };
    let profile = tempfile::tempdir().unwrap();
    let file = Path::new(&folder).join(name);
    Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--screenshot={}", file.display()))
        .args(more)
        .arg(url)
        .output()
        .unwrap();
}

/// The value of an attribute that the page's script sets on its root.
fn attribute(dom: &str, name: &str) -> Option<String> {
    let root = dom.split("<html").nth(1)?.split('>').next()?;
    Some(root.split(&format!("{name}=\"")).nth(1)?.split('"').next()?.to_owned())
}

fn rows(n: usize) -> String {
    let filler =
        "I wrote to you last week about the parcel and have not heard anything since then. ".repeat(8);
    (0..n)
        .map(|i| {
            let label = LABELS[i % 4];
            let input = match i {
                7 => format!("a needle {HOSTILE}"),
                _ => format!("message {i}: {filler}"),
            };
            let row = json!({"id": format!("m{i}"), "input": input, "expected": label, "tier": (["easy", "hard"][i % 2])});
            format!("{row}\n")
        })
        .collect()
}

fn measured(
    task: &Task,
    set: &EvalSet,
    folder: &Path,
    role: &str,
    right: impl Fn(usize) -> bool,
) -> Evaluation {
    let mut model = MockModel::expected(task, &set.samples).unwrap();
    for (i, sample) in set.samples.iter().enumerate().filter(|(i, _)| !right(*i)) {
        let wrong = match i {
            7 => HOSTILE,
            _ if i.is_multiple_of(7) => ALMOST[i % 4],
            _ => LABELS[(i + 1 + i % 2) % 4],
        };
        model = model.answering(&sample.input_text(), wrong);
    }
    let record_path = folder.join(format!("{role}.jsonl"));
    let settings = EvalSettings { record_path, resume: false, limit: None, seed: 1 };
    evaluate(task, set, &mut model, &settings, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// A report of `n` samples and four candidates; its records are in `folder`.
fn report(folder: &Path, n: usize) -> ReportData {
    std::fs::write(folder.join("task.toml"), TASK).unwrap();
    std::fs::write(folder.join("test.jsonl"), rows(n)).unwrap();
    let task = Task::load(folder).unwrap();
    let set = task.eval_set(Split::Test, &ReadOptions::default()).unwrap();
    let runs = folder.join("runs/mail/run-001");
    std::fs::create_dir_all(&runs).unwrap();
    let sizes = [98_000_000, 103_000_000, 91_000_000, 91_000_000];
    let candidate = |(index, role): (usize, &str)| {
        let right = |i: usize| match role {
            "base" => i.is_multiple_of(10),
            "tuned" => i % 25 != 7,
            "linear" => i % 12 != 7,
            _ => i % 4 == 1,
        };
        let mut evaluation = measured(&task, &set, &runs, role, right);
        (evaluation.rows_per_s, evaluation.peak_rss_mib) =
            (Some([3.1, 2.9, 310.0, 290.0][index]), Some(900.0));
        CandidateResult { role: role.into(), evaluation, bytes: Some(sizes[index]) }
    };
    let candidates = ["base", "tuned", "linear", "nearest"].into_iter().enumerate().map(candidate).collect();
    let mut data = ReportData::new(&task, candidates, 1).unwrap();
    data.loss_curve = (1..=80).map(|step| (step, 2.0 / step as f64 + 0.1)).collect();
    data
}

#[test]
fn a_report_of_five_thousand_samples_opens_fast_and_can_be_searched() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = report(folder.path(), SAMPLES);
    let html = data.html().unwrap();
    assert!(html.len() < 15_000_000, "{} bytes", html.len());
    let page = folder.path().join("report.html");
    std::fs::write(&page, &html).unwrap();
    let url = format!("file://{}", page.display());

    // The best of a few: the machine may have other work.
    let mut fastest = f64::MAX;
    let mut opened = (String::new(), String::new());
    for _ in 0..5 {
        opened = open(&browser, &url, &[]);
        let ready: f64 =
            attribute(&opened.0, "data-ready").expect("the script ran to its end").parse().unwrap();
        fastest = fastest.min(ready);
        if fastest <= 1000.0 {
            break;
        }
    }
    let (dom, console) = opened;
    println!("{SAMPLES} samples: {} bytes, usable after {fastest} ms", html.len());
    assert!(fastest <= 1000.0, "{fastest} ms");
    assert_eq!((attribute(&dom, "data-errors").as_deref(), console.as_str()), (Some("0"), ""));
    assert!(dom.contains(&format!(">{SAMPLES} samples<")) && dom.matches("<article").count() == 25);

    let found = |fragment: &str| {
        let (dom, console) = open(&browser, &format!("{url}#{fragment}"), &[]);
        assert_eq!(
            (attribute(&dom, "data-errors").as_deref(), console.as_str()),
            (Some("0"), ""),
            "{fragment}"
        );
        let count = dom.split("<output").nth(1).unwrap().split('<').next().unwrap();
        (count.split('>').nth(1).unwrap().to_owned(), dom)
    };
    assert_eq!(found("show=failed").0, "200 of 5000 samples");
    assert_eq!(found("show=failed&of=base").0, "4500 of 5000 samples");
    assert_eq!(found("show=failed&by=short").0, "1 of 5000 samples");
    assert_eq!(found("show=lost").0, "183 of 5000 samples");
    assert_eq!(found("search=nothing%20like%20it").0, "0 of 5000 samples");
    let (count, dom) = found("search=needle");
    assert_eq!(count, "1 of 5000 samples");
    assert!(dom.contains("&lt;img src=x onerror") && !dom.contains("<img") && !dom.contains("taken</title>"));

    let wide = "--window-size=1280,6200";
    screenshot(&browser, &format!("{url}#theme=light"), "report-light.png", &[wide]);
    screenshot(&browser, &format!("{url}#theme=dark"), "report-dark.png", &[wide]);
    screenshot(&browser, &url, "report-400.png", &["--window-size=400,9000"]);
}

/// The report of 60 samples as a file, with a script at its end that writes on the root of the page what it found.
fn asking(folder: &Path, script: &str) -> String {
    let html = report(folder, 60).html().unwrap();
    let script = format!("<script>addEventListener('load', () => {{ {script} }})</script></body>");
    assert_eq!(html.matches("</body>").count(), 1);
    let page = folder.join("asking.html");
    std::fs::write(&page, html.replace("</body>", &script)).unwrap();
    format!("file://{}", page.display())
}

#[test]
fn what_differs_from_the_expected_answer_is_marked() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let url = asking(folder.path(), "");
    let answers = |search: &str| {
        let dom = open(&browser, &format!("{url}#search={search}"), &[]).0;
        assert_eq!(dom.matches("<article").count(), 1, "{dom}");
        dom.split("<article").nth(1).unwrap().split("</article>").next().unwrap().to_owned()
    };
    let wrong = answers("m21");
    assert!(wrong.contains("late <ins>parcel</ins><del>delivery</del>"), "{wrong}");
    let right = answers("m20");
    assert!(right.contains("refund") && !right.contains("<ins>") && !right.contains("<del>"), "{right}");
}

#[test]
fn the_switch_changes_the_theme_and_an_address_can_ask_for_one() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = "const root = document.documentElement, button = document.querySelector('.theme');
        const paper = () => getComputedStyle(document.body).backgroundColor;
        root.dataset.first = paper(); button.click();
        root.dataset.second = paper(); button.click();
        root.dataset.third = paper();";
    let url = asking(folder.path(), script);
    let (light, dark) = ("rgb(251, 250, 247)", "rgb(21, 23, 26)");
    for (theme, papers) in [("light", [light, dark, light]), ("dark", [dark, light, dark])] {
        let (dom, console) = open(&browser, &format!("{url}#theme={theme}"), &[]);
        let found = ["first", "second", "third"].map(|name| attribute(&dom, &format!("data-{name}")));
        assert_eq!(found.each_ref().map(Option::as_deref), papers.map(Some), "{theme}: {console}");
    }
}

#[test]
fn a_report_fits_400_pixels() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    asking(
        folder.path(),
        "parent.postMessage(`${innerWidth} ${document.documentElement.scrollWidth}`, '*');",
    );
    // In a frame, because the browser's windows are 500 pixels wide at least.
    let frame = folder.path().join("frame.html");
    let script = "onmessage = (told) => { document.documentElement.dataset.widths = told.data; };";
    let page = format!(
        "<!doctype html><script>{script}</script><iframe src=asking.html width=400 height=900></iframe>"
    );
    std::fs::write(&frame, page).unwrap();
    let (dom, console) =
        open(&browser, &format!("file://{}", frame.display()), &["--virtual-time-budget=4000"]);
    let widths = attribute(&dom, "data-widths").unwrap_or_else(|| panic!("no widths: {console}"));
    let (window, page) = widths.split_once(' ').unwrap();
    assert_eq!(window, "400", "as narrow as asked for");
    assert!(page.parse::<u32>().unwrap() <= 400, "{page} pixels wide");
}

/// A second run under `task` with the first 40 samples of a record, held as by a program that goes on writing it.
fn half_a_record(task: &Path) -> File {
    let whole = std::fs::read_to_string(task.join("run-001/base.jsonl")).unwrap();
    let half: String = whole.split_inclusive('\n').take(41).collect();
    std::fs::create_dir_all(task.join("run-002")).unwrap();
    let path = task.join("run-002/base.jsonl");
    std::fs::write(&path, half).unwrap();
    let file = File::open(&path).unwrap();
    file.lock().unwrap();
    file
}

#[test]
fn the_viewer_shows_the_runs_and_their_reports() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    report(folder.path(), SAMPLES);
    let going_on = half_a_record(&folder.path().join("runs/mail"));
    let mut viewer = Command::new(env!("CARGO_BIN_EXE_underdog"))
        .args(["view", "runs", "--port", "0"])
        .current_dir(folder.path())
        .env("UNDERDOG_CACHE", folder.path().join("cache"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(viewer.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.split(' ').next().unwrap().to_owned();
    let shown = open(&browser, &url, &["--virtual-time-budget=4000"]);
    let report = open(&browser, &format!("{url}run/mail/run-001#show=failed"), &[]);
    screenshot(&browser, &url, "view-light.png", &["--virtual-time-budget=4000", "--window-size=1280,1100"]);
    viewer.kill().unwrap();
    viewer.wait().unwrap();
    drop(going_on);
    assert_eq!((attribute(&shown.0, "data-errors").as_deref(), shown.1.as_str()), (Some("0"), ""));
    assert_eq!(attribute(&shown.0, "data-runs").as_deref(), Some("2"), "{}", shown.0);
    let live = shown.0.split("class=\"live\"").nth(1).unwrap().split("</section>").next().unwrap();
    assert!(live.starts_with('>'), "not hidden: {live}");
    assert!(live.contains("<h3>mail/run-002</h3>") && live.contains("base: 40 of 5000 samples"), "{live}");
    assert!(
        live.contains("right so far 10.0 %") && live.contains("<progress max=\"5000\" value=\"40\""),
        "{live}"
    );
    assert!(shown.0.contains("96.0 %") && shown.0.contains("href=\"/run/mail/run-001\""));
    assert_eq!((attribute(&report.0, "data-errors").as_deref(), report.1.as_str()), (Some("0"), ""));
    assert!(report.0.contains(">200 of 5000 samples<"), "the same page as the report's");
}
