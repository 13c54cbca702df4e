//! Rows that are decoded over a cache, against the f32 reference on the same numbers: in every format of a cache, many rows after
//! one prompt, rows that guess ahead, and prompts that are read beside them.

use super::*;
use crate::cached::{CacheFormat, Cached};
use underdog_testkit::{hashed_values, relative_error};

const SLOTS: usize = 2000;

/// A prompt of 100 tokens, 5 documents after it, and for each of 40 rows its own question and what it decoded before; every
/// fourth row guesses ahead, and a new question is read. Slots lie anywhere, but what was decoded goes on in one piece.
fn runs() -> Vec<Run> {
    let mut runs = Vec::new();
    let (mut row, mut slot) = (0, 400);
    for i in 0..41 {
        let mut past = vec![Span { slot: 30, len: 100, position: 0 }];
        let mut position = 100;
        if i % 3 > 0 {
            past.push(Span { slot: 140 + 40 * (i % 5), len: 33, position });
            position += 33;
        }
        let question = 5 + i % 7;
        past.push(Span { slot, len: question, position });
        position += question;
        // The question and what was decoded do not touch, or they do.
        slot += question + i % 2;
        let done = i % 6;
        if done > 0 {
            past.push(Span { slot, len: done, position });
        }
        let len = if i == 40 { 29 } else { 1 + 3 * usize::from(i % 4 == 0) };
        runs.push(Run { row, len, position: position + done, slot: slot + done, past });
        row += len;
        slot += done + len + 2;
    }
    assert!(slot < SLOTS);
    runs
}

fn shape(window: Option<usize>, head_size: usize, format: Format) -> Heads {
    Heads { heads: 6, kv_heads: 2, head_size, scale: 1.5 / (head_size as f32).sqrt(), window, format }
}

/// Keys and values in a format of a cache, and the numbers that these stand for.
fn stored(format: CacheFormat, head_size: usize) -> [(Cached, Vec<f32>); 2] {
    [1, 2].map(|part| {
        let mut cached = Cached::new(format, SLOTS, 2, head_size);
        let from = hashed_values(8, part, SLOTS * 2 * head_size, 2.5);
        from.chunks_exact(2 * head_size).enumerate().for_each(|(slot, row)| cached.put(slot, row));
        let mut wide = vec![0.0; from.len()];
        for (i, to) in wide.chunks_exact_mut(head_size).enumerate() {
            cached.view().widen(i / 2, i % 2, to);
        }
        (cached, wide)
    })
}

#[test]
fn rows_over_a_cache_get_what_the_reference_gives_on_its_numbers() {
    let runs = runs();
    let rows: usize = runs.iter().map(|run| run.len).sum();
    let single = &runs[1..2];
    let single = [Run { row: 0, ..single[0].clone() }];
    for cache in [CacheFormat::F32, CacheFormat::Bf16, CacheFormat::Int8] {
        for (window, d) in [(None, 64), (Some(60), 64), (Some(1), 24), (Some(120), 96)] {
            let [(keys, wide_keys), (values, wide_values)] = stored(cache, d);
            let q = hashed_values(8, 0, rows * 6 * d, 3.0);
            for (format, bound) in [(Format::F32, 2e-6), (Format::Bf16, 1e-2)] {
                // All rows, those that are short, and one alone.
                for some in [&runs[..], &runs[..40], &single] {
                    let rows: usize = some.iter().map(|run| run.len).sum();
                    let q = &q[..rows * 6 * d];
                    let shape = shape(window, d, format);
                    let (mut want, mut lse) = (vec![0.0; q.len()], vec![0.0; rows * 6]);
                    let plain = |x| CachedView::plain(x, 2, d);
                    let wide = (plain(&wide_keys), plain(&wide_values));
                    reference::forward(&mut want, &mut lse, q, wide, some, shape);
                    let answers = [1, 2].map(|threads| {
                        let mut out = vec![f32::NAN; q.len()];
                        let pool = Pool::new(threads);
                        forward_cached(
                            (&mut Space::default(), &pool),
                            &mut out,
                            q,
                            (keys.view(), values.view()),
                            some,
                            shape,
                        );
                        out
                    });
                    let error = relative_error(&answers[0], &want);
                    let name = format!("{cache:?} {format:?} D {d} {window:?}, {rows} rows");
                    assert!(error < bound, "{name}: {error}");
                    assert!(answers[0] == answers[1], "{name}: threads change nothing");
                    if format == Format::Bf16 && crate::cpu::has_wide_words() && rows > 1 && window.is_none()
                    {
                        assert!(error > 1e-5, "{name}: the tiles were not used");
                    }
                }
            }
        }
    }
}

/// What few bits cost: against the numbers before they were rounded.
#[test]
fn few_bits_stay_within_their_bounds() {
    let runs = runs();
    let rows: usize = runs.iter().map(|run| run.len).sum();
    let q = hashed_values(8, 0, rows * 6 * 64, 3.0);
    let shape = shape(None, 64, Format::F32);
    let outcome = |format| {
        let [(keys, _), (values, _)] = stored(format, 64);
        let mut out = vec![f32::NAN; q.len()];
        forward_cached(
            (&mut Space::default(), &Pool::new(2)),
            &mut out,
            &q,
            (keys.view(), values.view()),
            &runs,
            shape,
        );
        out
    };
    let want = outcome(CacheFormat::F32);
    for (format, bound) in [(CacheFormat::Bf16, 1.5e-2), (CacheFormat::Int8, 5e-2)] {
        let error = relative_error(&outcome(format), &want);
        assert!(error > 1e-5 && error < bound, "{format:?}: {error}");
    }
}

#[test]
fn what_many_rows_share_is_visited_once_a_block() {
    let rows: Vec<Run> = runs().into_iter().filter(|run| run.len == 1).collect();
    assert_eq!(rows.len(), 30);
    let plan = plan::Plan::of(&rows, shape(None, 64, Format::Bf16));
    let visits = |slot: usize| {
        let piece = plan.pieces.iter().find(|piece| piece.slot == slot).expect("it is packed");
        plan.blocks.iter().flat_map(|b| &b.visits).filter(|v| v.group == piece.group).count()
    };
    assert_eq!((plan.blocks.len(), visits(30)), (1, 1), "the prompt");
    assert!((0..5).all(|document| visits(140 + 40 * document) == 1), "documents of rows side by side");
    // A question that touches what was decoded after it is one stretch with that.
    assert!(plan.pieces.iter().all(|piece| piece.len > 0));
    // A longer prompt pays for the packing of what each row has for itself.
    let longer = |run: &Run| {
        let mut run = Run { position: run.position + 500, ..run.clone() };
        run.past[0].len += 500;
        run.past[1..].iter_mut().for_each(|span| span.position += 500);
        run
    };
    let long: Vec<Run> = rows.iter().map(longer).collect();
    assert!(plan::Plan::of(&long, shape(None, 64, Format::Bf16)).is_worth_packing());
    let alone: Vec<Run> =
        rows.iter().map(|run| Run { past: run.past[1..].to_vec(), ..run.clone() }).collect();
    assert!(!plan::Plan::of(&alone[..3], shape(None, 64, Format::Bf16)).is_worth_packing());
}
