//! How long the bootstrap takes: 20 candidates × 10,000 samples × 10,000 draws, for graded and for yes-or-no answers.
//!
//!     cargo run --release -p underdog-eval --example bootstrap_speed
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::time::Instant;
use underdog_eval::random::Random;
use underdog_eval::statistics::{Clusters, Column, Draws, bootstrap_means, paired_permutation};

const CANDIDATES: usize = 20;
const SAMPLES: usize = 10_000;

fn main() {
    let mut random = Random::new(1);
    let mut column = |values: usize| -> Vec<f64> {
        (0..SAMPLES).map(|_| random.below(values) as f64 / (values - 1) as f64 - 0.49).collect()
    };
    let graded: Vec<Vec<f64>> = (0..CANDIDATES).map(|_| column(1000)).collect();
    let rates: Vec<Vec<f64>> = (0..CANDIDATES).map(|_| column(3)).collect();
    let clusters = Clusters::new(&(0..SAMPLES).map(|i| Some(i / 5)).collect::<Vec<_>>());
    let threads = rayon::current_num_threads();
    for (name, data, clusters) in [
        ("graded", &graded, None),
        ("yes or no", &rates, None),
        ("graded, groups of five", &graded, Some(&clusters)),
    ] {
        let columns: Vec<Column<'_>> = data.iter().map(|values| Column { values, clusters }).collect();
        let started = Instant::now();
        let intervals = bootstrap_means(&columns, &Draws::new(7));
        let seconds = started.elapsed().as_secs_f64();
        println!("bootstrap, {name}: {seconds:.2} s on {threads} threads, the first {:?}", intervals[0]);
        if clusters.is_none() {
            let started = Instant::now();
            let p: Vec<Option<f64>> = data.iter().map(|values| paired_permutation(values, 7)).collect();
            println!("sign flips, {name}: {:.2} s, the first {:?}", started.elapsed().as_secs_f64(), p[0]);
        }
    }
}
