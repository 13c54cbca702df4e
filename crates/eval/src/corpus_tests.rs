//! Numbers of the corpus against counting by hand, and where there is none. Agreement with scikit-learn, scipy and
//! sacrebleu is in `tests/scorers.rs`.

use super::*;

fn labels(rows: &[(&[&str], &[&str])]) -> Vec<Option<Evidence>> {
    let own = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
    rows.iter()
        .map(|(found, expected)| Some(Evidence::Labels { found: own(found), expected: own(expected) }))
        .collect()
}

fn pairs(rows: &[(f64, f64)]) -> Vec<Option<Evidence>> {
    rows.iter()
        .map(|(found, expected)| Some(Evidence::Numbers { found: *found, expected: *expected }))
        .collect()
}

fn value(number: CorpusNumber, rows: &[Option<Evidence>]) -> Result<f64, &'static str> {
    Statistic::new(number, rows).value(&(0..rows.len()).collect::<Vec<_>>())
}

#[test]
fn f1_counts_labels_together_and_apart() {
    let rows = labels(&[(&["a"], &["a"]), (&["b", "a"], &["a"]), (&[], &["c"])]);
    // a: 2 hits; b: 1 too much; c: 1 missed.
    assert_eq!(value(CorpusNumber::MicroF1, &rows), Ok(4.0 / 6.0));
    assert_eq!(value(CorpusNumber::MacroF1, &rows), Ok(1.0 / 3.0));
    let chosen = Statistic::new(CorpusNumber::MacroF1, &rows).value(&[0, 0]);
    assert_eq!(chosen, Ok(1.0), "labels that do not occur in a choice do not count in it");
    assert!(value(CorpusNumber::MicroF1, &labels(&[(&[], &[])])).is_err());
}

#[test]
fn hits_in_part_sum_up() {
    let row = |hit, extra, missed| Some(Evidence::Hits { hit, extra, missed });
    let rows = [row(1.5, 0.5, 0.5), None, row(0.0, 0.0, 1.0)];
    assert_eq!(value(CorpusNumber::MicroF1, &rows), Ok(3.0 / 5.0));
    assert!(value(CorpusNumber::MicroF1, &[row(0.0, 0.0, 0.0)]).is_err());
}

#[test]
fn agreement_and_correlation_by_hand() {
    let rows = pairs(&[(0.0, 0.0), (1.0, 2.0), (2.0, 1.0), (3.0, 3.0)]);
    // Seen 2; by chance (28 - 2·6·6/4) = 10.
    assert_eq!(value(CorpusNumber::QuadraticKappa, &rows), Ok(0.8));
    assert!((value(CorpusNumber::Pearson, &rows).unwrap() - 0.8).abs() < 1e-12);
    assert!((value(CorpusNumber::Spearman, &rows).unwrap() - 0.8).abs() < 1e-12);
    assert!((value(CorpusNumber::Kendall, &rows).unwrap() - 4.0 / 6.0).abs() < 1e-12);
    let opposite = pairs(&[(1.0, 3.0), (2.0, 2.0), (5.0, 1.0)]);
    assert_eq!(value(CorpusNumber::Kendall, &opposite), Ok(-1.0));
    assert!((value(CorpusNumber::Spearman, &opposite).unwrap() + 1.0).abs() < 1e-12);
}

#[test]
fn where_there_is_nothing_to_measure_there_is_a_reason() {
    let flat = pairs(&[(1.0, 1.0), (1.0, 1.0), (1.0, 1.0)]);
    for number in
        [CorpusNumber::QuadraticKappa, CorpusNumber::Pearson, CorpusNumber::Spearman, CorpusNumber::Kendall]
    {
        assert!(value(number, &flat).is_err(), "{number:?}");
        assert_eq!(value(number, &[]), Err(NOT_ENOUGH));
        assert_eq!(value(number, &flat[..1]), Err(ONE));
    }
    for number in [CorpusNumber::Bleu, CorpusNumber::Chrf] {
        assert_eq!(value(number, &[None]), Err(NOT_ENOUGH));
    }
}

#[test]
fn intervals_are_seeded_and_missing_where_redrawing_shows_nothing() {
    let rows = pairs(&(0..40).map(|i| (f64::from(i), f64::from(i % 7))).collect::<Vec<_>>());
    let statistic = Statistic::new(CorpusNumber::Spearman, &rows);
    let draw = |n, seed| bootstrap(n, None, &Draws { seed, count: statistic.draws() }, &statistic);
    let interval = draw(40, 3).unwrap();
    assert!(
        interval.low < statistic.value(&(0..40).collect::<Vec<_>>()).unwrap() && interval.low < interval.high
    );
    assert_eq!(draw(40, 3), Ok(interval));
    assert_ne!(draw(40, 4), Ok(interval));
    assert_eq!((draw(0, 3), draw(1, 3)), (Err(NOT_ENOUGH), Err(ONE)));
    // Forty samples in four groups say less than forty samples.
    let groups = Clusters::new(&(0..40).map(|i| Some(i / 10)).collect::<Vec<_>>());
    let alike: Vec<_> = (0..40).map(|i| (f64::from(i / 10), [1.0, 0.0, 3.0, 2.0][i as usize / 10])).collect();
    let by_group = Statistic::new(CorpusNumber::Spearman, &pairs(&alike));
    let of = |groups| bootstrap(40, groups, &Draws { seed: 3, count: 1_000 }, &by_group).unwrap();
    let (wide, narrow) = (of(Some(&groups)), of(None));
    assert!(wide.high - wide.low > 2.0 * (narrow.high - narrow.low), "{wide:?} {narrow:?}");
    let one = Clusters::new(&[Some(0); 40]);
    let refused = bootstrap(40, Some(&one), &Draws::new(3), &statistic).unwrap_err();
    assert!(refused.contains("not enough clusters"));
    let few = Draws { seed: 1, count: 100 };
    let right = labels(&[(&["a"], &["a"]), (&["b"], &["b"])]);
    let statistic = Statistic::new(CorpusNumber::MacroF1, &right);
    assert!(bootstrap(2, None, &few, &statistic).unwrap_err().contains("same number"));
    let one_of_three = [right[0].clone(), None, None];
    let statistic = Statistic::new(CorpusNumber::MacroF1, &one_of_three);
    assert!(bootstrap(3, None, &few, &statistic).unwrap_err().contains("no number"));
}
