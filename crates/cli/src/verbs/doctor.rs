//! `underdog doctor`: what the CPU has, and the ceilings that benchmarks are held against.

use crate::environment::machine;
use crate::output::Output;
use serde::Serialize;
use std::time::Duration;
use underdog_eval::Result;
use underdog_tensor::pool::Pool;
use underdog_tensor::{ceilings, cpu, quantised, tiles};

/// Time for one ceiling.
const TIME: Duration = Duration::from_millis(400);
/// Bytes that are read for the bandwidth: more than caches hold on most machines.
const BYTES: usize = 512 << 20;

/// What was found. Rates are in 10⁹ operations or bytes a second.
#[derive(Debug, Serialize)]
struct Findings {
    machine: String,
    threads: usize,
    /// Width of the elementwise code.
    vectors: String,
    /// Path of products with quantised weights.
    quantised_path: String,
    amx_bf16: bool,
    f32_gflop_per_s: f64,
    bf16_gflop_per_s: f64,
    /// Of 8-bit integers, with weights in blocks.
    int8_gop_per_s: f64,
    read_gb_per_s_one_thread: f64,
    read_gb_per_s: f64,
    /// The same from a buffer of the size of a small model, which large caches hold.
    read_gb_per_s_from_100_mb: f64,
}

/// Runs the verb.
pub fn run(output: &Output) -> Result<()> {
    let pool = Pool::new(rayon::current_num_threads());
    let rate = |pool: &Pool, bytes| ceilings::read_bandwidth(pool, bytes, TIME) / 1e9;
    let found = Findings {
        machine: machine(),
        threads: pool.threads(),
        vectors: format!("{:?}", cpu::best()).to_lowercase(),
        quantised_path: format!("{:?}", quantised::Path::best()).to_lowercase(),
        amx_bf16: tiles::amx_available(),
        f32_gflop_per_s: ceilings::f32_product(TIME) / 1e9,
        bf16_gflop_per_s: ceilings::bf16_product(&pool, TIME) / 1e9,
        int8_gop_per_s: ceilings::integer_product(&pool, TIME) / 1e9,
        read_gb_per_s_one_thread: rate(&Pool::new(1), BYTES),
        read_gb_per_s: rate(&pool, BYTES),
        read_gb_per_s_from_100_mb: rate(&pool, 100_000_000),
    };
    output.result(&found, || text(&found))
}

fn text(found: &Findings) -> String {
    let bf16 = match tiles::state() {
        tiles::State::Ready => "in AMX tiles",
        tiles::State::Refused => "in vectors, as the kernel refuses this process the AMX registers",
        tiles::State::Absent => "in vectors, as this CPU has no AMX",
    };
    format!(
        "{}\n  threads            {}\n  vectors            {}\n  quantised weights  {}\n  f32 products       {:.0} \
         GFLOP/s\n  bf16 products      {:.0} GFLOP/s {bf16}, packed factors in cache\n  8-bit products     {:.0} GOP/s, weights in blocks in \
         cache\n  memory, 1 thread   {:.1} GB/s\n  memory             {:.1} GB/s\n  \
         memory, 100 MB     {:.1} GB/s (a large cache may serve it)",
        found.machine,
        found.threads,
        found.vectors,
        found.quantised_path,
        found.f32_gflop_per_s,
        found.bf16_gflop_per_s,
        found.int8_gop_per_s,
        found.read_gb_per_s_one_thread,
        found.read_gb_per_s,
        found.read_gb_per_s_from_100_mb,
    )
}
