//! Simulated learning curves of records, the forecast's coverage, the advice as a whole, its page and its file.

use super::*;
use crate::random::Random;
use crate::report::TaskSummary;
use crate::runner::Evaluation;
use crate::split::EvalSet;
use crate::task::Task;
use crate::test_support::{measure, mock, task};

/// Evaluations after learning from `rows`, right with the chance that the law says; the same samples are hard for all.
fn simulated(
    (task, set, folder): (&Task, &EvalSet, &Path),
    law: &PowerLaw,
    rows: &[usize],
    seed: u64,
) -> Vec<(usize, Evaluation)> {
    let mut random = Random::new(seed);
    let n = set.samples.len();
    let mut noise = || (0..n).map(|_| random.next_u64() as f64 / u64::MAX as f64).collect::<Vec<_>>();
    let shared = noise();
    rows.iter()
        .map(|count| {
            let own = noise();
            let right = |i: usize| {
                let chance = if own[i] < 0.5 { shared[i] } else { noise_of(own[i]) };
                chance > law.error(*count as f64)
            };
            let record = folder.join(format!("s{seed}-{count}.jsonl"));
            (*count, measure(task, set, &mut mock(task, set, right), &record))
        })
        .collect()
}

/// Another number from 0 to 1, out of one between 0.5 and 1.
fn noise_of(own: f64) -> f64 {
    2.0 * own - 1.0
}

fn pairs(measured: &[(usize, Evaluation)]) -> Vec<(usize, &Evaluation)> {
    measured.iter().map(|(rows, evaluation)| (*rows, evaluation)).collect()
}

#[test]
fn simulated_curves_give_their_gain_back_within_the_interval() {
    let folder = tempfile::tempdir().unwrap();
    let (task, set) = task(folder.path(), 300);
    let law = PowerLaw { floor: 0.1, scale: 3.0, rate: 0.45 };
    let truth = law.error(1000.0) - law.error(2000.0);
    let rounds = 40;
    let mut inside = 0;
    let mut mean = 0.0;
    for seed in 0..rounds {
        let measured = simulated((&task, &set, folder.path()), &law, &[50, 100, 250, 500, 1000], seed);
        let curve = LearningCurve::of("tuned", &pairs(&measured), seed).unwrap();
        let doubled = curve.doubled.unwrap();
        let (low, high) = (doubled.low.unwrap(), doubled.high.unwrap());
        inside += usize::from(low <= truth && truth <= high);
        mean += doubled.gain / rounds as f64;
        assert_eq!((doubled.rows, curve.points.len()), (2000, 5));
    }
    assert!((mean - truth).abs() < 0.01, "{mean} {truth}");
    // Percentile intervals of a bounded fit are not exact; below nine in ten they would mislead.
    assert!(inside >= 36, "{inside} of {rounds}");
}

#[test]
fn two_points_are_not_enough_and_other_samples_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (task, set) = task(folder.path(), 40);
    let law = PowerLaw { floor: 0.1, scale: 1.0, rate: 0.3 };
    let mut measured = simulated((&task, &set, folder.path()), &law, &[10, 20], 1);
    let curve = LearningCurve::of("tuned", &pairs(&measured), 1).unwrap();
    assert_eq!((curve.points.len(), &curve.doubled), (2, &None));
    let sentence = curve.sentence(crate::statistics::Unit::Share);
    assert!(sentence.contains("not known") && sentence.contains("not enough points"), "{sentence}");
    measured[1].1.header.data_fingerprint = "other".into();
    assert!(LearningCurve::of("tuned", &pairs(&measured), 1).is_err());
    assert!(LearningCurve::of("tuned", &[], 1).is_err());
}

fn advice(folder: &Path, tuned_right: usize) -> AdviseData {
    let (task, set) = task(folder, 120);
    let candidate = |role: &str, right: usize| CandidateResult {
        role: role.into(),
        evaluation: measure(
            &task,
            &set,
            &mut mock(&task, &set, |i| (i * 7) % 120 < right),
            &folder.join(format!("{role}.jsonl")),
        ),
        bytes: None,
    };
    let law = PowerLaw { floor: 0.02, scale: 2.0, rate: 0.5 };
    let measured = simulated((&task, &set, folder), &law, &[20, 40, 100, 200, 400], 3);
    let candidates = [("base", 4), ("few-shot", 40), ("tuned", tuned_right), ("majority", 2), ("linear", 60)];
    AdviseData::new(Findings {
        task: TaskSummary { name: task.name.clone(), description: "<i>x</i>".into(), score: "fields".into() },
        train_rows: 400,
        shared: 0,
        candidates: candidates.map(|(role, right)| candidate(role, right)).into(),
        curves: vec![LearningCurve::of("tuned", &pairs(&measured), 1).unwrap()],
        seed: 1,
    })
    .unwrap()
}

#[test]
fn the_advice_rests_on_claims_and_is_one_page() {
    let folder = tempfile::tempdir().unwrap();
    let data = advice(folder.path(), 100);
    assert_eq!(data.recommendation, Recommendation::FineTune);
    let kinds: Vec<_> = data.claims.iter().map(|claim| claim.sentence()).collect();
    assert!(kinds[0].contains("the linear model") && kinds[1].contains("the few-shot model"), "{kinds:?}");
    assert!(data.reasons.iter().any(|reason| reason.contains("twice the rows (800)")), "{:?}", data.reasons);
    data.write(folder.path()).unwrap();
    let html = std::fs::read_to_string(folder.path().join("advise.html")).unwrap();
    assert!(html.contains("Fine-tune a model.") && html.contains("class=\"learning\""));
    assert!(
        html.contains("&lt;i&gt;x")
            && !html.contains("<i>x</i>")
            && !html.contains("http:")
            && !html.contains("https")
    );
    for claim in &data.claims {
        assert!(
            html.contains(&claim.sentence().replace('<', "&lt;").replace('\'', "&#39;")),
            "{}",
            claim.sentence()
        );
    }
    assert_eq!(AdviseData::read(folder.path()).unwrap().unwrap(), data);
    assert_eq!(AdviseData::read(&folder.path().join("none")).unwrap(), None);
}

#[test]
fn a_trained_model_behind_a_simple_one_is_not_recommended() {
    let folder = tempfile::tempdir().unwrap();
    let data = advice(folder.path(), 20);
    assert_ne!(data.recommendation, Recommendation::FineTune);
    assert!(data.claims[0].sentence().contains("worse than the linear model"), "{:?}", data.claims);
}

#[test]
fn a_newer_advice_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("advise.json"), "{\"version\": 99}").unwrap();
    assert!(AdviseData::read(folder.path()).unwrap_err().to_string().contains("newer version"));
    std::fs::write(folder.path().join("advise.json"), "{}").unwrap();
    assert!(AdviseData::read(folder.path()).is_err());
}
