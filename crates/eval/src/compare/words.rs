//! Numbers in sentences: shares, points, p and counts, with no more digits than they deserve.

use super::Comparison;
use crate::statistics::{Estimate, Unit};

/// A share as `78.5 %`, rounded as [`points`] are, so that a share and its difference from 0 read alike.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", (share * 1000.0).round() / 10.0)
}

/// A difference of shares in points, with its sign; never `-0.0`.
pub(crate) fn points(difference: f64) -> String {
    let tenths = (difference * 1000.0).round() / 10.0;
    if tenths == 0.0 { "0.0".to_owned() } else { format!("{tenths:+.1}").replace('-', "−") }
}

impl Estimate {
    /// The interval in the numbers of a table: `71.2 to 79.0`.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub fn interval_in_words(&self) -> Result<String, &str> {
        match (self.low, self.high) {
            (Some(low), Some(high)) => Ok(format!("{} to {}", self.unit.bare(low), self.unit.bare(high))),
            _ => Err(self.reason.as_deref().unwrap_or("no interval")),
        }
    }

    /// [`Estimate::interval_in_words`], or why there is none.
    pub(crate) fn interval_or_reason(&self) -> String {
        self.interval_in_words().unwrap_or_else(str::to_owned)
    }
}

impl Unit {
    /// A value: `78.5 %`, or `0.52` where it is no share.
    pub fn value(self, value: f64) -> String {
        match self {
            Unit::Share => percent(value),
            Unit::Number => plain(value),
        }
    }

    /// A value in a table whose unit stands elsewhere: `78.5` or `0.52`.
    pub fn bare(self, value: f64) -> String {
        match self {
            Unit::Share => format!("{:.1}", (value * 1000.0).round() / 10.0),
            Unit::Number => plain(value),
        }
    }

    /// A difference with its sign: `+2.3` (points), or `+0.11` where it is no share.
    pub fn difference(self, difference: f64) -> String {
        match self {
            Unit::Share => points(difference),
            Unit::Number => {
                let hundredths = (difference * 100.0).round() / 100.0;
                if hundredths == 0.0 {
                    "0.00".to_owned()
                } else {
                    format!("{hundredths:+.2}").replace('-', "−")
                }
            }
        }
    }

    /// What stands after a difference in a sentence.
    pub fn points(self) -> &'static str {
        if self == Unit::Share { " points" } else { "" }
    }
}

/// Two digits, never `-0.00`.
fn plain(value: f64) -> String {
    let hundredths = (value * 100.0).round() / 100.0;
    if hundredths == 0.0 { "0.00".to_owned() } else { format!("{hundredths:.2}").replace('-', "−") }
}

/// p in words: never 0, and no more digits than it deserves.
pub(crate) fn p_words(p: f64) -> String {
    match p {
        p if p < 0.001 => "p < 0.001".to_owned(),
        p if p < 0.1 => format!("p = {p:.3}"),
        p => format!("p = {p:.2}"),
    }
}

/// p for tables: `0.031` or `< 0.001`.
pub(crate) fn p_short(p: f64) -> String {
    p_words(p).trim_start_matches("p ").trim_start_matches("= ").to_owned()
}

/// Two leading digits: an estimate of samples has no more.
pub(crate) fn rounded(count: u64) -> String {
    let mut unit = 1;
    while count / unit >= 100 {
        unit *= 10;
    }
    let digits = (count.div_ceil(unit) * unit).to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

impl Comparison {
    /// The difference in points with its interval, such as `+2.3 [−0.4 to +5.0]`; `-` where there is none.
    pub fn difference_text(&self) -> String {
        match (self.difference, self.low, self.high) {
            (Some(d), Some(low), Some(high)) => {
                let text = |difference| self.unit.difference(difference);
                format!("{} [{} to {}]", text(d), text(low), text(high))
            }
            (Some(d), ..) => format!("{} (no interval)", self.unit.difference(d)),
            (None, ..) => "-".to_owned(),
        }
    }

    /// p as it counts, corrected where others were tested too, such as `0.031` or `< 0.001`; `-` where there is none.
    pub fn p_text(&self) -> String {
        self.p_holm.or(self.p).map_or_else(|| "-".to_owned(), p_short)
    }
}
