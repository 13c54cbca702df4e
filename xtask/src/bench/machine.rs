//! What a kept result says about where it came from: the day, the CPU, the memory, the commit.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine and the state of the repository.
#[derive(Debug)]
pub struct Machine {
    /// Day in UTC, `2026-01-31`.
    pub date: String,
    /// Commit that is checked out, where git tells.
    pub commit: Option<String>,
    /// Whether files differ from that commit.
    pub changed: bool,
    cpu: String,
    numbers: String,
    threads: usize,
    memory_gib: Option<u64>,
}

impl Machine {
    /// Asks the system.
    pub fn read(root: &Path) -> Self {
        let git = |arguments: &[&str]| {
            let output = Command::new("git").args(arguments).current_dir(root).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
        };
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let line = |name: &str| {
            let value =
                |l: &str| Some(l.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim().to_string());
            info.lines().find_map(value)
        };
        let part = |name: &str| line(name).unwrap_or_else(|| "x".into());
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = memory
            .lines()
            .find_map(|l| l.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
        let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() / 86400);
        Machine {
            date: date(days),
            commit: git(&["rev-parse", "HEAD"]),
            changed: git(&["status", "--porcelain"]).is_none_or(|text| !text.is_empty()),
            cpu: line("model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
            numbers: format!("{}-{}", part("cpu family"), part("model\t")),
            threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
            memory_gib: kib.map(|kib| kib.div_ceil(1 << 20)),
        }
    }

    /// For the name of a folder.
    pub fn slug(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name: String = self.cpu.replace("(R)", "").replace("(TM)", "").chars().map(plain).collect();
        let words: Vec<&str> = name.split('-').filter(|word| !word.is_empty()).collect();
        format!("{}-{}", words.join("-"), self.numbers)
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let memory = self.memory_gib.map_or(String::new(), |gib| format!(", {gib} GiB"));
        format!("{} (family-model {}), {} threads{memory}", self.cpu, self.numbers, self.threads)
    }
}

/// The civil date of a day since 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms").
fn date(days: u64) -> String {
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, year) } else { (month - 9, year + 1) };
    format!("{:04}-{month:02}-{day:02}", year + era * 400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        for (days, want) in
            [(0, "1970-01-01"), (11_016, "2000-02-29"), (20_453, "2025-12-31"), (20_454, "2026-01-01")]
        {
            assert_eq!(date(days), want);
        }
    }
}
