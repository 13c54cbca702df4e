//! What the machine and its environment variables say, read once.

use crate::output::say;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use underdog_eval::{Error, Kind, Result};
use underdog_model::catalogue::Cache;
use underdog_tensor::cpu;

/// Resolved surroundings of a command.
pub struct Environment {
    /// The cache of models.
    pub cache: Cache,
    /// Set by Ctrl-C: finish what cannot be left half done, then stop.
    pub stop: Arc<AtomicBool>,
    /// Set while nothing is going on but waiting for a person: then Ctrl-C ends the program at once.
    pub idle: Arc<AtomicBool>,
    /// Columns that a line of output may take: COLUMNS, else 80.
    pub columns: usize,
    /// Where `proc` and `sys` are: `/`, or for tests the folder in UNDERDOG_SYSTEM_ROOT.
    pub system: PathBuf,
}

/// More threads than this are a slip of the hand: they would take longer to start than to work.
const MOST_THREADS: usize = 1024;

impl Environment {
    /// Reads the environment, sets up threads and the handler of Ctrl-C.
    pub fn resolve(threads: Option<usize>) -> Result<Self> {
        check_instruction_set()?;
        if let Some(threads) = threads {
            if !(1..=MOST_THREADS).contains(&threads) {
                return Err(Error::new(Kind::Usage, "so many threads cannot work")
                    .expected(format!("--threads of 1 to {MOST_THREADS}"))
                    .found(threads.to_string()));
            }
            let built = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
            built.map_err(|e| Error::new(Kind::System, "cannot start the threads").found(e.to_string()))?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let idle = Arc::new(AtomicBool::new(false));
        let (flag, waiting) = (stop.clone(), idle.clone());
        let handler = move || {
            // A second Ctrl-C means now. Everything on disk is whole at any moment, so nothing is lost.
            if flag.swap(true, Ordering::Relaxed) || waiting.load(Ordering::Relaxed) {
                std::process::exit(i32::from(Kind::Stopped.exit_code()));
            }
            say("\nstopping after this step; press Ctrl-C again to stop at once");
        };
        ctrlc::set_handler(handler)
            .map_err(|e| Error::new(Kind::System, "cannot listen for Ctrl-C").found(e.to_string()))?;
        let system = std::env::var_os("UNDERDOG_SYSTEM_ROOT").map_or_else(|| "/".into(), PathBuf::from);
        Ok(Environment { cache: Cache::at(cache_root()?), stop, idle, columns: columns(), system })
    }

    /// Whether Ctrl-C was pressed.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn columns() -> usize {
    let stated = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    stated.filter(|columns| *columns > 0).unwrap_or(80)
}

/// A word that means nothing would hold nothing back, and what was measured would not be what was meant.
fn check_instruction_set() -> Result<()> {
    let unknown = variable(cpu::SWITCH).filter(|word| word.to_str().and_then(cpu::level).is_none());
    unknown.map_or(Ok(()), |word| {
        Err(Error::new(Kind::Usage, format!("the variable {} says nothing known", cpu::SWITCH))
            .expected("portable, avx2, avx512 or amx")
            .found(word.display().to_string()))
    })
}

/// A variable of the environment; an empty one counts as not set.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

fn cache_root() -> Result<PathBuf> {
    let base = || variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    variable("UNDERDOG_CACHE").or_else(|| base().map(|b| b.join("underdog"))).ok_or_else(|| {
        Error::new(Kind::System, "there is no place for the model cache")
            .hint("set UNDERDOG_CACHE to a folder")
    })
}

/// Peak resident memory of this process in MiB since its start or the last [`reset_peak_memory`], where the platform
/// tells.
pub fn peak_memory_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

/// Begins a new measurement of the peak, between two stages of a run, so that each reports its own. Where the platform
/// cannot, the peak stays that of the whole process.
pub fn reset_peak_memory() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// One line on the machine, for reports.
pub fn machine() -> String {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(':').map(|(_, m)| m.trim().to_string()));
    format!("{}, {threads} threads", model.unwrap_or_else(|| std::env::consts::ARCH.to_string()))
}
