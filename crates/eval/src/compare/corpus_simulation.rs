//! Numbers of the corpus on data with a known truth, many times over: intervals cover it as often as they promise, and the test
//! of two candidates that are alike cries wolf no more often than it promises.

use super::*;
use crate::check::Evidence;
use crate::corpus::CorpusNumber;
use crate::random::Random;

/// Simulated data sets; the standard error of a share near 5 % is then one point.
const SETS: u64 = 400;
/// Samples of one.
const SAMPLES: usize = 80;

fn uniform(random: &mut Random) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Three expected parts, each found with a chance of 0.6, and two that are there without being expected with one of 0.3.
fn parts(random: &mut Random) -> Evidence {
    let mut count = |of: usize, chance: f64| (0..of).filter(|_| uniform(random) < chance).count() as f64;
    let hit = count(3, 0.6);
    Evidence::Hits { hit, extra: count(2, 0.3), missed: 3.0 - hit }
}
/// Two hits over two hits and what is too much and missed, of the means.
const PARTS_F1: f64 = 3.6 / (3.6 + 0.6 + 1.2);

/// A number of the row, and the answer's, which is off by up to a half.
fn numbers(random: &mut Random) -> Evidence {
    let expected = uniform(random);
    Evidence::Numbers { expected, found: expected + uniform(random) - 0.5 }
}

/// How often the interval of one candidate covers `truth`, and how often two that are alike are told apart at 5 %.
fn simulated(number: CorpusNumber, draw: fn(&mut Random) -> Evidence, truth: f64) -> (f64, f64) {
    let (mut covered, mut told) = (0.0, 0.0);
    for set in 0..SETS {
        let random = &mut Random::new(Random::new(set ^ 7 << 20).next_u64());
        let rows: Vec<Option<Evidence>> = (0..2 * SAMPLES).map(|_| Some(draw(random))).collect();
        let corpus = Corpus { statistic: Statistic::new(number, &rows), n: SAMPLES };
        let (redrawn, draws) = (Redrawn::new(SAMPLES, None), Draws { seed: set, count: 500 });
        let values = redrawn.numbers(&draws, |chosen| corpus.both(chosen).ok().map(|pair| pair.0));
        let interval = redrawn.interval(&values).unwrap();
        covered += f64::from(u8::from(interval.low <= truth && truth <= interval.high));
        let (a, b) = corpus.both(&(0..SAMPLES).collect::<Vec<_>>()).unwrap();
        told += f64::from(u8::from(corpus.p(&redrawn, &draws, b - a) < 0.05));
    }
    (covered / SETS as f64, told / SETS as f64)
}

#[test]
fn micro_f1_covers_and_does_not_cry_wolf() {
    let (covered, told) = simulated(CorpusNumber::MicroF1, parts, PARTS_F1);
    assert!((0.92..=0.98).contains(&covered), "covered {covered}");
    assert!((0.02..=0.08).contains(&told), "told apart {told}");
}

#[test]
fn ranks_cover_and_do_not_cry_wolf() {
    // The truth from one large sample: off by less than a hundredth of the interval's width.
    let random = &mut Random::new(1);
    let rows: Vec<Option<Evidence>> = (0..400_000).map(|_| Some(numbers(random))).collect();
    let all: Vec<usize> = (0..rows.len()).collect();
    let truth = Statistic::new(CorpusNumber::Spearman, &rows).value(&all).unwrap();
    let (covered, told) = simulated(CorpusNumber::Spearman, numbers, truth);
    assert!((0.92..=0.98).contains(&covered), "truth {truth}, covered {covered}");
    assert!((0.02..=0.08).contains(&told), "told apart {told}");
}
