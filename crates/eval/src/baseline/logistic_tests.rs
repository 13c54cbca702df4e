//! The regression against scikit-learn, and its gradient against differences.

use super::*;
use serde_json::Value;

const TIGHT: Stop = Stop { gradient: 1e-9, steps: 20_000 };

fn golden() -> Value {
    serde_json::from_str(include_str!("../../tests/data/logistic.json")).unwrap()
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn agrees(golden: &Value, cases: &str, targets: &Targets) {
    let (train, test): (Vec<Vec<f32>>, Vec<Vec<f32>>) = (read(&golden["train"]), read(&golden["test"]));
    let data = Data::new(&train);
    let mut last = None;
    for case in golden[cases].as_array().unwrap() {
        let c = case["c"].as_f64().unwrap();
        let want: Vec<Vec<f64>> = read(&case["probabilities"]);
        for start in [None, last.as_ref()] {
            let got = Logistic::fit(&data, targets, c, start, TIGHT).probabilities(&test);
            for (row, (got, want)) in got.iter().zip(&want).enumerate() {
                assert_eq!(got.len(), want.len());
                for (got, want) in got.iter().zip(want) {
                    assert!((got - want).abs() < 1e-6, "{cases} c {c} row {row}: {got} but {want}");
                }
            }
        }
        last = Some(Logistic::fit(&data, targets, c, None, TIGHT));
    }
}

#[test]
fn probabilities_are_those_of_scikit_learn() {
    let golden = golden();
    agrees(&golden, "softmax", &Targets::Classes { of_row: read(&golden["classes"]), count: 5 });
    agrees(&golden, "binary", &Targets::Classes { of_row: read(&golden["two_classes"]), count: 2 });
    let sets: Vec<Vec<usize>> = read(&golden["sets"]);
    let labels = |set: &Vec<usize>| (0..3).filter(|&label| set[label] == 1).collect();
    agrees(&golden, "sigmoid", &Targets::Labels { of_row: sets.iter().map(labels).collect(), count: 3 });
}

#[test]
fn the_gradient_is_that_of_the_loss() {
    let golden = golden();
    let train: Vec<Vec<f32>> = read(&golden["train"]);
    let targets = Targets::Classes { of_row: read(&golden["classes"]), count: 5 };
    let data = Data::new(&train);
    let shape = Shape { features: data.features, columns: 8 };
    let marks = marks(train.len(), 5, &targets);
    let weights: Vec<f64> =
        (0..shape.features * shape.columns).map(|i| ((i * 7) % 11) as f64 * 0.1).collect();
    let value = |weights: &[f64], gradient: &mut [f64]| {
        sum_over_rows(&data, (Link::Softmax, 5, shape), &marks, weights, gradient)
    };
    let mut gradient = vec![0.0; weights.len()];
    value(&weights, &mut gradient);
    for place in [0, 3, 4, 8, 8 * 8, 8 * 8 + 4, 5] {
        let mut moved = weights.clone();
        moved[place] += 1e-5;
        let above = value(&moved, &mut vec![0.0; weights.len()]);
        moved[place] -= 2e-5;
        let below = value(&moved, &mut vec![0.0; weights.len()]);
        let slope = (above - below) / 2e-5;
        assert!((slope - gradient[place]).abs() < 1e-6, "[{place}] {slope} but {}", gradient[place]);
    }
    assert_eq!(gradient[5], 0.0, "a column that only fills up has no gradient");
}

#[test]
fn far_logits_do_not_overflow() {
    let mut logits = [1000.0, -1000.0];
    let loss = Link::Softmax.residual(&mut logits, &[0.0, 1.0]);
    assert_eq!((loss, logits), (2000.0, [1.0, -1.0]));
    let mut logits = [-800.0];
    assert_eq!(Link::Labels.residual(&mut logits, &[1.0]), 800.0);
}
