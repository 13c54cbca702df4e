//! Whole evaluations with the mock: the JSON object, wrong and missing answers, limits, stopping.

use super::*;
use crate::mock::MockModel;
use crate::model::Identity;
use crate::test_support::{measure, mock, settings, task};

#[test]
fn expected_answers_score_everything_and_the_object_has_the_promised_fields() {
    let folder = tempfile::tempdir().unwrap();
    let (task, set) = task(folder.path(), 20);
    let evaluation = measure(&task, &set, &mut mock(&task, &set, |_| true), &folder.path().join("r.jsonl"));
    assert_eq!(evaluation.score, Some(1.0));
    let object = serde_json::to_value(&evaluation).unwrap();
    let keys: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "task",
            "candidate",
            "split",
            "n",
            "score",
            "metrics",
            "rows_per_s",
            "prompt_tokens",
            "computed_tokens",
            "new_tokens",
            "seconds",
            "peak_rss_mib",
            "record"
        ]
    );
    let metric = object["metrics"]["fields"].as_object().unwrap();
    assert_eq!(metric.keys().collect::<Vec<_>>(), ["value", "low", "high", "n"]);
    assert_eq!((object["split"].as_str(), object["n"].as_u64()), (Some("test"), Some(20)));
    assert_eq!(evaluation.metrics[ANSWERED].value, Some(1.0));
    assert_eq!(evaluation.prompt_tokens, 20 * 3, "words of `Extract.` and `input 0`");
    assert_eq!(Evaluation::from_record(&evaluation.record).unwrap(), evaluation);
}

#[test]
fn an_answer_that_cannot_be_given_counts_as_wrong_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (task, set) = task(folder.path(), 4);
    let mut model = MockModel::expected(&task, &set.samples[..3]).unwrap();
    let evaluation = measure(&task, &set, &mut model, &folder.path().join("r.jsonl"));
    assert_eq!((evaluation.score, evaluation.unanswered()), (Some(0.75), 1));
    assert_eq!(evaluation.metrics[ANSWERED].value, Some(0.75));
    assert_eq!(evaluation.metrics["valid"].n, 4);
    assert!(evaluation.samples[3].error.as_ref().unwrap().contains("no answer to this message"));
}

#[test]
fn a_limit_is_a_seeded_random_sample_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (task, set) = task(folder.path(), 50);
    let run = |name: &str, limit, seed| {
        let settings = EvalSettings { limit: Some(limit), seed, ..settings(&folder.path().join(name)) };
        evaluate(&task, &set, &mut mock(&task, &set, |_| true), &settings, &mut |_| ControlFlow::Continue(()))
            .map(|evaluation| evaluation.samples.into_iter().map(|sample| sample.id).collect::<Vec<_>>())
    };
    let ids = run("a", 5, 1).unwrap();
    assert_eq!(ids, run("b", 5, 1).unwrap());
    assert_ne!(ids, run("c", 5, 2).unwrap());
    assert_ne!(ids, ["r0", "r1", "r2", "r3", "r4"]);
    assert!(ids.is_sorted_by_key(|id| id[1..].parse::<usize>().unwrap()));
    assert!(run("d", 0, 1).is_err());
}

#[test]
fn a_stop_keeps_what_is_done_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (task, set) = task(folder.path(), 6);
    let path = folder.path().join("r.jsonl");
    let mut model = mock(&task, &set, |_| true);
    let error = evaluate(&task, &set, &mut model, &settings(&path), &mut |progress| {
        if progress.done == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap_err();
    assert_eq!(error.kind(), Kind::Stopped);
    assert!(
        error.to_string().contains("2 of 6") && error.facts().hint.as_ref().unwrap().contains("--resume")
    );
    assert!(Evaluation::from_record(&path).unwrap_err().to_string().contains("not finished"));
    let resume = EvalSettings { resume: true, ..settings(&path) };
    let mut seen = Vec::new();
    let evaluation = evaluate(&task, &set, &mut model, &resume, &mut |progress| {
        seen.push((progress.done, progress.score));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(seen.first(), Some(&(2, Some(1.0))));
    assert_eq!((seen.len(), evaluation.n), (5, 6));
    assert_eq!(evaluation.split, Split::Test.name());
}

/// A candidate that breaks its promises in one way.
struct Unruly(Behaviour);

type Behaviour = fn(&mut dyn FnMut(usize, Result<Output>) -> ControlFlow<()>) -> Result<()>;

impl Model for Unruly {
    fn identity(&self) -> Identity {
        Identity { name: "unruly".into(), fingerprint: "0".into() }
    }

    fn generate(
        &mut self,
        _: &[Request],
        on_output: &mut dyn FnMut(usize, Result<Output>) -> ControlFlow<()>,
    ) -> Result<()> {
        (self.0)(on_output)
    }
}

fn wrong() -> Result<Output> {
    Err(Error::new(Kind::Model, "prompt too long"))
}

#[test]
fn a_candidate_that_misses_repeats_or_fails_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (task, set) = task(folder.path(), 2);
    let mut count = 0;
    let mut run = |model: Unruly| {
        count += 1;
        let settings = settings(&folder.path().join(format!("r{count}")));
        let mut model = model;
        evaluate(&task, &set, &mut model, &settings, &mut |_| ControlFlow::Continue(()))
            .map(|e| e.unanswered())
    };
    let error = run(Unruly(|_| Ok(()))).unwrap_err().to_string();
    assert!(error.contains("expected 2 answers, found 0"), "{error}");
    let twice: Behaviour = |on_output| {
        let _ = on_output(0, wrong());
        let _ = on_output(0, wrong());
        Ok(())
    };
    assert!(run(Unruly(twice)).unwrap_err().to_string().contains("not open"));
    let beyond: Behaviour = |on_output| {
        let _ = on_output(7, wrong());
        Ok(())
    };
    assert!(run(Unruly(beyond)).unwrap_err().to_string().contains("found 7"));
    assert!(run(Unruly(|_| Err(Error::new(Kind::System, "out of memory")))).is_err());
    let both: Behaviour = |on_output| {
        let _ = on_output(1, wrong());
        let _ = on_output(0, wrong());
        Ok(())
    };
    assert_eq!(run(Unruly(both)).unwrap(), 2);
}

#[test]
fn a_field_that_no_row_expects_is_refused_before_anything_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    task(folder.path(), 3);
    let path = folder.path().join("task.toml");
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace("fields = [\"a\", \"b\"]", "fields = [\"a\", \"bb\"]");
    std::fs::write(&path, text).unwrap();
    let task = Task::load(folder.path()).unwrap();
    let error = task.eval_set(Split::Test, &crate::split::ReadOptions::default()).unwrap_err();
    let facts = error.facts();
    assert_eq!((error.kind(), facts.found.as_deref()), (Kind::Data, Some("`bb`")), "{error}");
    assert_eq!(facts.expected.as_deref(), Some("one of `a`, `b`"));
}
