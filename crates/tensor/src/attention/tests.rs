//! Both ways against the definition in f64, and against each other.

use super::*;
use underdog_testkit::{assert_close, assert_gradient, hashed_values, relative_error};

/// A root of 3 tokens with two children of 2 and 70 tokens: more than one block, two branches.
fn forest() -> Vec<Run> {
    let root = Span { slot: 0, len: 3, position: 0 };
    vec![
        Run { row: 0, len: 3, position: 0, slot: 0, past: vec![] },
        Run { row: 3, len: 2, position: 3, slot: 3, past: vec![root] },
        Run { row: 5, len: 70, position: 3, slot: 5, past: vec![root] },
    ]
}

/// Σ dout · attention(q, k, v), straight from the definition in f64.
fn definition(q: &[f64], k: &[f64], v: &[f64], dout: &[f32], runs: &[Run], shape: Heads) -> f64 {
    let Heads { heads, kv_heads, head_size: d, scale, window, .. } = shape;
    let mut sum = 0.0;
    for run in runs {
        for i in 0..run.len {
            let position = run.position + i;
            let own = Span { slot: run.slot, len: run.len, position: run.position };
            let seen: Vec<usize> = run
                .past
                .iter()
                .chain([&own])
                .flat_map(|s| (0..s.len).map(|j| (s.slot + j, s.position + j)))
                .filter(|&(_, p)| p <= position && window.is_none_or(|w| position - p < w))
                .map(|(slot, _)| slot)
                .collect();
            for h in 0..heads {
                let g = h / (heads / kv_heads);
                let at = (run.row + i) * heads * d + h * d;
                let score = |&s: &usize| -> f64 {
                    (0..d).map(|c| q[at + c] * k[s * kv_heads * d + g * d + c]).sum::<f64>() * scale as f64
                };
                let weights: Vec<f64> = seen.iter().map(|s| score(s).exp()).collect();
                let total: f64 = weights.iter().sum();
                for (s, w) in seen.iter().zip(&weights) {
                    for c in 0..d {
                        sum += w / total * v[s * kv_heads * d + g * d + c] * dout[at + c] as f64;
                    }
                }
            }
        }
    }
    sum
}

#[test]
fn forward_and_backward_follow_the_definition_with_and_without_a_window() {
    for window in [None, Some(2), Some(40)] {
        let shape = Heads { heads: 4, kv_heads: 2, head_size: 3, scale: 0.7, window, format: Format::F32 };
        let runs = forest();
        let t = 75;
        let (q, k, v) = (
            hashed_values(3, 0, t * 12, 3.0),
            hashed_values(3, 1, t * 6, 3.0),
            hashed_values(3, 2, t * 6, 3.0),
        );
        let dout = hashed_values(3, 3, t * 12, 2.0);
        let (mut out, mut lse) = (vec![0.0; t * 12], vec![0.0; t * 4]);
        forward(&mut out, &mut lse, &q, &k, &v, &runs, shape);
        let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|&x| x as f64).collect() };
        let (qw, kw, vw) = (wide(&q), wide(&k), wide(&v));
        let got: f64 = out.iter().zip(&dout).map(|(a, b)| (a * b) as f64).sum();
        assert!((got - definition(&qw, &kw, &vw, &dout, &runs, shape)).abs() < 1e-4, "{window:?}");
        let saved = Saved { q: &q, k: &k, v: &v, out: &out, lse: &lse };
        let g = backward(&dout, saved, &runs, shape);
        let some = |x: &[f32]| -> Vec<f32> { x[..60].to_vec() };
        let with = |x: &[f64], all: &[f64]| -> Vec<f64> { x.iter().chain(&all[60..]).copied().collect() };
        assert_gradient("dq", &some(&g.dq), &some(&q), |x| {
            definition(&with(x, &qw), &kw, &vw, &dout, &runs, shape)
        });
        assert_gradient("dk", &some(&g.dk), &some(&k), |x| {
            definition(&qw, &with(x, &kw), &vw, &dout, &runs, shape)
        });
        assert_gradient("dv", &some(&g.dv), &some(&v), |x| {
            definition(&qw, &kw, &with(x, &vw), &dout, &runs, shape)
        });
    }
}

#[test]
fn one_row_at_a_time_is_the_same_as_all_rows_at_once() {
    let shape =
        Heads { heads: 4, kv_heads: 2, head_size: 8, scale: 0.3, window: Some(5), format: Format::F32 };
    let (q, k, v) = (
        hashed_values(4, 0, 20 * 32, 3.0),
        hashed_values(4, 1, 20 * 16, 3.0),
        hashed_values(4, 2, 20 * 16, 3.0),
    );
    let whole = [Run { row: 0, len: 20, position: 0, slot: 0, past: vec![] }];
    let (mut want, mut lse) = (vec![0.0; 20 * 32], vec![0.0; 20 * 4]);
    forward(&mut want, &mut lse, &q, &k, &v, &whole, shape);
    for i in 0..20 {
        let past = if i == 0 { vec![] } else { vec![Span { slot: 0, len: i, position: 0 }] };
        let run = [Run { row: 0, len: 1, position: i, slot: i, past }];
        let (mut out, mut one) = (vec![0.0; 32], vec![0.0; 4]);
        forward(&mut out, &mut one, &q[i * 32..(i + 1) * 32], &k, &v, &run, shape);
        for c in 0..32 {
            assert!((out[c] - want[i * 32 + c]).abs() < 1e-6, "row {i} value {c}");
        }
        for h in 0..4 {
            assert!((one[h] - lse[i * 4 + h]).abs() < 1e-5, "row {i} head {h}");
        }
    }
}

/// The slots a row sees.
fn seen(run: &Run, i: usize, window: Option<usize>) -> Vec<usize> {
    let position = run.position + i;
    let own = Span { slot: run.slot, len: run.len, position: run.position };
    run.past
        .iter()
        .chain([&own])
        .flat_map(|s| (0..s.len).map(|j| (s.slot + j, s.position + j)))
        .filter(|&(_, p)| p <= position && window.is_none_or(|w| position - p < w))
        .map(|(slot, _)| slot)
        .collect()
}

/// All that attention gives, forward and backward.
struct Outcome {
    out: Vec<f32>,
    lse: Vec<f32>,
    gradients: Gradients,
}

/// Inputs of a case.
struct Case {
    name: &'static str,
    runs: Vec<Run>,
    shape: Heads,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    dout: Vec<f32>,
}

impl Case {
    fn new(name: &'static str, runs: Vec<Run>, shape: Heads) -> Self {
        let rows: usize = runs.iter().map(|run| run.len).sum();
        let (width, kv_width) =
            (rows * shape.heads * shape.head_size, rows * shape.kv_heads * shape.head_size);
        Case {
            name,
            runs,
            shape,
            q: hashed_values(5, 0, width, 3.0),
            k: hashed_values(5, 1, kv_width, 3.0),
            v: hashed_values(5, 2, kv_width, 2.0),
            dout: hashed_values(5, 3, width, 2.0),
        }
    }

    fn outcome(&self, format: Format) -> Outcome {
        let shape = Heads { format, ..self.shape };
        let rows = self.q.len() / (shape.heads * shape.head_size);
        let (mut out, mut lse) = (vec![f32::NAN; self.q.len()], vec![f32::NAN; rows * shape.heads]);
        forward(&mut out, &mut lse, &self.q, &self.k, &self.v, &self.runs, shape);
        let saved = Saved { q: &self.q, k: &self.k, v: &self.v, out: &out, lse: &lse };
        let gradients = backward(&self.dout, saved, &self.runs, shape);
        Outcome { out, lse, gradients }
    }

    /// The definition and its derivatives, in f64.
    fn definition(&self) -> Outcome {
        let Heads { heads, kv_heads, head_size: d, scale, window, .. } = self.shape;
        let (mut out, mut lse) = (vec![0.0; self.q.len()], vec![0.0; self.q.len() / d]);
        let (mut dq, mut dk, mut dv) =
            (vec![0.0; self.q.len()], vec![0.0; self.k.len()], vec![0.0; self.v.len()]);
        let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&a, &b)| a as f64 * b as f64).sum() };
        for run in &self.runs {
            for i in 0..run.len {
                let seen = seen(run, i, window);
                for h in 0..heads {
                    let at = ((run.row + i) * heads + h) * d;
                    let kv = |s: usize| (s * kv_heads + h / (heads / kv_heads)) * d;
                    let (q, dout) = (&self.q[at..at + d], &self.dout[at..at + d]);
                    let score = |&s: &usize| dot(q, &self.k[kv(s)..kv(s) + d]) * scale as f64;
                    let scores: Vec<f64> = seen.iter().map(score).collect();
                    let total: f64 = scores.iter().map(|s| s.exp()).sum();
                    lse[at / d] = total.ln();
                    let weights: Vec<f64> = scores.iter().map(|s| s.exp() / total).collect();
                    let dweights: Vec<f64> =
                        seen.iter().map(|&s| dot(dout, &self.v[kv(s)..kv(s) + d])).collect();
                    let delta: f64 = weights.iter().zip(&dweights).map(|(w, dw)| w * dw).sum();
                    for ((&s, w), dw) in seen.iter().zip(&weights).zip(&dweights) {
                        let ds = w * (dw - delta) * scale as f64;
                        for c in 0..d {
                            out[at + c] += w * self.v[kv(s) + c] as f64;
                            dv[kv(s) + c] += w * dout[c] as f64;
                            dq[at + c] += ds * self.k[kv(s) + c] as f64;
                            dk[kv(s) + c] += ds * q[c] as f64;
                        }
                    }
                }
            }
        }
        let narrow = |x: Vec<f64>| x.into_iter().map(|x| x as f32).collect();
        let gradients = Gradients { dq: narrow(dq), dk: narrow(dk), dv: narrow(dv) };
        Outcome { out: narrow(out), lse: narrow(lse), gradients }
    }
}

/// Segments by `(parent, length)`, laid out as a forest does it.
fn segments(all: &[(Option<usize>, usize)]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for &(parent, len) in all {
        let row = runs.last().map_or(0, |run| run.row + run.len);
        let (mut past, mut position) = (Vec::new(), 0);
        if let Some(Run { past: older, len, position: from, slot, .. }) = parent.map(|p| &runs[p]) {
            past.clone_from(older);
            past.push(Span { slot: *slot, len: *len, position: *from });
            position = from + len;
        }
        runs.push(Run { row, len, position, slot: row, past });
    }
    runs
}

/// Random segments: most grow out of an earlier one, some have one token.
fn random_forest(seed: u64, count: usize) -> Vec<Run> {
    let numbers: Vec<usize> =
        hashed_values(seed, 9, 3 * count, 2.0).iter().map(|x| ((x + 1.0) * 1e6) as usize).collect();
    let segment = |(i, n): (usize, &[usize])| {
        let parent = (i > 0 && n[0] % 5 > 0).then(|| n[1] % i.max(1));
        (parent, if n[2] % 4 == 0 { 1 } else { n[2] % 60 + 1 })
    };
    let all: Vec<(Option<usize>, usize)> = numbers.chunks_exact(3).enumerate().map(segment).collect();
    segments(&all)
}

fn cases() -> Vec<Case> {
    let shape = |heads, kv_heads, head_size, window| Heads {
        heads,
        kv_heads,
        head_size,
        scale: 1.2 / (head_size as f32).sqrt(),
        window,
        format: Format::F32,
    };
    let siblings: Vec<(Option<usize>, usize)> =
        [(None, 150)].into_iter().chain((0..9).map(|i| (Some(0), 13 + 5 * i))).collect();
    let chain: Vec<(Option<usize>, usize)> =
        (0..12usize).map(|i| (i.checked_sub(1), if i % 3 == 0 { 1 } else { 11 * i })).collect();
    vec![
        Case::new("long run", segments(&[(None, 500)]), shape(3, 1, 64, None)),
        Case::new("long run in a window", segments(&[(None, 700)]), shape(4, 1, 32, Some(100))),
        Case::new("siblings", segments(&siblings), shape(6, 2, 64, None)),
        Case::new("siblings in a window", segments(&siblings), shape(6, 2, 32, Some(40))),
        Case::new("one head each", segments(&siblings), shape(2, 2, 96, Some(37))),
        Case::new("wide heads in a window", segments(&siblings[..6]), shape(4, 1, 256, Some(64))),
        Case::new("chain", segments(&chain), shape(5, 1, 64, None)),
        Case::new("chain in a window", segments(&chain), shape(5, 1, 64, Some(33))),
        Case::new("head size that fills no tile", random_forest(1, 12), shape(4, 2, 24, None)),
        Case::new("odd head size", random_forest(2, 12), shape(4, 4, 40, Some(21))),
        Case::new("forest", random_forest(3, 20), shape(9, 3, 64, None)),
        Case::new("forest in a window", random_forest(4, 20), shape(9, 3, 64, Some(50))),
    ]
}

#[test]
fn both_kinds_follow_the_definition_on_forests() {
    for case in cases() {
        let want = case.definition();
        for (format, forward, backward) in [(Format::F32, 1e-5, 1e-5), (Format::Bf16, 1e-2, 2e-2)] {
            if format == Format::Bf16 && !crate::cpu::has_wide_words() {
                println!("this machine has no AVX-512: attention in bf16 is not run here");
                continue;
            }
            let got = case.outcome(format);
            let name = |what: &str| format!("{} {format:?} {what}", case.name);
            assert_close(&name("out"), &got.out, &want.out, forward);
            assert_close(&name("lse"), &got.lse, &want.lse, forward);
            assert_close(&name("dq"), &got.gradients.dq, &want.gradients.dq, backward);
            assert_close(&name("dk"), &got.gradients.dk, &want.gradients.dk, backward);
            assert_close(&name("dv"), &got.gradients.dv, &want.gradients.dv, backward);
            if format == Format::Bf16 {
                let error = relative_error(&got.out, &want.out);
                assert!(error > 1e-5, "{}: the tiles were not used", case.name);
            }
        }
    }
}

#[test]
fn the_same_bits_come_out_twice_and_on_any_number_of_threads() {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    for case in cases() {
        for format in [Format::F32, Format::Bf16] {
            let first = pool(2).install(|| case.outcome(format));
            for threads in [1, 2, 3] {
                let again = pool(threads).install(|| case.outcome(format));
                let name = case.name;
                assert!(first.out == again.out && first.lse == again.lse, "{name} {format:?} on {threads}");
                let (a, b) = (&first.gradients, &again.gradients);
                assert!(a.dq == b.dq && a.dk == b.dk && a.dv == b.dv, "{name} {format:?} on {threads}");
            }
        }
    }
}

#[test]
fn rows_go_on_from_a_cache_in_which_spans_lie_anywhere() {
    let span = |slot, len, position| Span { slot, len, position };
    let runs = vec![
        Run { row: 0, len: 70, position: 130, slot: 300, past: vec![span(200, 90, 0), span(7, 40, 90)] },
        Run { row: 70, len: 1, position: 130, slot: 6, past: vec![span(200, 90, 0), span(7, 40, 90)] },
        Run { row: 71, len: 40, position: 50, slot: 100, past: vec![span(200, 50, 0)] },
        Run { row: 111, len: 33, position: 30, slot: 150, past: vec![span(220, 30, 0)] },
    ];
    for window in [None, Some(64), Some(25)] {
        let shape = Heads { heads: 6, kv_heads: 2, head_size: 32, scale: 0.3, window, format: Format::F32 };
        let (q, k, v) = (
            hashed_values(6, 0, 144 * 192, 3.0),
            hashed_values(6, 1, 400 * 64, 3.0),
            hashed_values(6, 2, 400 * 64, 3.0),
        );
        let [want, got] = [Format::F32, Format::Bf16].map(|format| {
            let (mut out, mut lse) = (vec![f32::NAN; 144 * 192], vec![f32::NAN; 144 * 6]);
            forward(&mut out, &mut lse, &q, &k, &v, &runs, Heads { format, ..shape });
            (out, lse)
        });
        assert_close("out", &got.0, &want.0, 1e-2);
        assert_close("lse", &got.1, &want.1, 1e-2);
        assert!(
            !crate::cpu::has_wide_words() || relative_error(&got.0, &want.0) > 1e-5,
            "the tiles were not used"
        );
    }
}

#[test]
fn scores_far_apart_do_not_overflow_and_hidden_keys_weigh_nothing() {
    let mut case = Case::new(
        "steep",
        segments(&[(None, 90), (Some(0), 40), (Some(0), 3)]),
        Heads { heads: 2, kv_heads: 1, head_size: 32, scale: 1.0, window: None, format: Format::F32 },
    );
    // Scores rise along the sequence to some hundreds, and fall below as many.
    for (i, k) in case.k.chunks_exact_mut(32).enumerate() {
        k.iter_mut().for_each(|x| *x *= 0.1 * i as f32);
    }
    for format in [Format::F32, Format::Bf16] {
        let got = case.outcome(format);
        let all = [&got.out, &got.lse, &got.gradients.dq, &got.gradients.dk, &got.gradients.dv];
        assert!(all.iter().all(|x| x.iter().all(|x| x.is_finite())), "{format:?}");
        let first = &got.out[..32];
        assert_close("a first row sees its own value alone", first, &case.v[..32], 5e-3);
    }
}
