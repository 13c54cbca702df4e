//! Progress on stderr: a bar on a terminal, a line every few seconds in a pipe.

use crate::environment::Environment;
use crate::output::say;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use underdog_model::pull;

/// How often a pipe gets a line.
const EVERY: Duration = Duration::from_secs(10);

/// One piece of work.
pub struct Meter {
    bar: ProgressBar,
    label: String,
    last: Option<Instant>,
}

fn bar(total: u64, template: &str) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(total), target);
    // A template that does not parse would be a fault of this file; the plain bar is still a bar.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar
}

impl Meter {
    /// Work of `total` units under a label such as `train`.
    pub fn new(label: &str, total: usize) -> Self {
        let bar = bar(total as u64, "{prefix:>6} {wide_bar} {pos}/{len}  {msg}  {eta} left");
        bar.set_prefix(label.to_string());
        bar.enable_steady_tick(Duration::from_millis(500));
        Meter { bar, label: label.into(), last: None }
    }

    /// `done` units are done; `message` says how it goes.
    pub fn update(&mut self, done: usize, message: &str) {
        self.bar.set_position(done as u64);
        self.bar.set_message(message.to_string());
        let total = self.bar.length().unwrap_or(0);
        let due = self.last.is_none_or(|last| last.elapsed() >= EVERY) || done as u64 == total;
        if self.bar.is_hidden() && due {
            say(&format!("{} {done}/{total}  {message}", self.label));
            self.last = Some(Instant::now());
        }
    }

    /// Takes the bar away.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// Progress of a download that ends when `stop` is set.
pub struct Download {
    bar: RefCell<Option<ProgressBar>>,
    shown: Cell<u64>,
    stop: Arc<AtomicBool>,
}

impl Download {
    /// One that Ctrl-C ends.
    pub fn new(environment: &Environment) -> Self {
        Download { bar: RefCell::default(), shown: Cell::default(), stop: environment.stop.clone() }
    }
}

impl pull::Progress for Download {
    fn begin(&self, label: &str, total_bytes: u64) {
        let bar = bar(total_bytes, "{prefix} {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left");
        bar.set_prefix(label.to_string());
        if bar.is_hidden() {
            say(&format!("{label}, {} MB", total_bytes / 1_000_000));
        }
        self.shown.set(0);
        self.bar.replace(Some(bar));
    }

    fn advance(&self, bytes: u64) {
        self.shown.set(self.shown.get() + bytes);
        if let Some(bar) = self.bar.borrow().as_ref() {
            bar.set_position(self.shown.get());
        }
    }

    fn note(&self, line: &str) {
        match self.bar.borrow().as_ref() {
            Some(bar) if !bar.is_hidden() => bar.println(line),
            _ => say(line),
        }
    }

    fn end(&self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
