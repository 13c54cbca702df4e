//! Records cut off at every byte, records of other runs, and an old record that must stay readable.

use super::*;
use crate::runner::{EvalSettings, evaluate};
use crate::test_support::{measure, mock, settings, task};
use std::ops::ControlFlow;

fn without_times(mut samples: Vec<SampleRecord>) -> Vec<SampleRecord> {
    samples.iter_mut().for_each(|sample| sample.elapsed = 0.0);
    samples
}

#[test]
fn a_record_cut_off_at_any_byte_resumes_to_the_same_samples() {
    let folder = tempfile::tempdir().unwrap();
    let (task, set) = task(folder.path(), 3);
    let path = folder.path().join("record.jsonl");
    let mut model = mock(&task, &set, |i| i != 1);
    let whole = measure(&task, &set, &mut model, &path);
    let bytes = std::fs::read(&path).unwrap();
    let resume = EvalSettings { resume: true, ..settings(&path) };
    for cut in 0..=bytes.len() {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let kept = bytes[..cut].iter().filter(|&&byte| byte == b'\n').count().saturating_sub(1);
        let (mut writer, done) = RecordWriter::resume(&path, &whole.header).unwrap();
        assert_eq!(done, whole.samples[..kept], "cut at {cut}: whole lines are kept");
        whole.samples[kept..].iter().for_each(|sample| writer.append(sample).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "cut at {cut}");
    }
    for cut in (0..=bytes.len()).step_by(97) {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let again = evaluate(&task, &set, &mut model, &resume, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(without_times(again.samples), without_times(whole.samples.clone()), "cut at {cut}");
        assert_eq!(again.metrics, whole.metrics);
    }
}

#[test]
fn a_record_is_never_overwritten_and_never_mixed_with_another_run() {
    let folder = tempfile::tempdir().unwrap();
    let (task, set) = task(folder.path(), 4);
    let path = folder.path().join("record.jsonl");
    let mut model = mock(&task, &set, |_| true);
    measure(&task, &set, &mut model, &path);
    let before = std::fs::read(&path).unwrap();
    let run = |settings: &EvalSettings, right: bool| {
        evaluate(&task, &set, &mut mock(&task, &set, |_| right), settings, &mut |_| ControlFlow::Continue(()))
    };
    let error = run(&settings(&path), true).unwrap_err();
    assert!(error.to_string().contains("a record already") && error.kind() == Kind::Usage, "{error}");
    let resume = EvalSettings { resume: true, ..settings(&path) };
    let error = run(&resume, false).unwrap_err().to_string();
    assert!(error.contains("another candidate's weights"), "{error}");
    let error = run(&EvalSettings { seed: 2, ..resume.clone() }, true).unwrap_err().to_string();
    assert!(error.contains("another setting"), "{error}");
    let error = run(&EvalSettings { limit: Some(2), ..resume }, true).unwrap_err().to_string();
    assert!(error.contains("another set of samples"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_sample_twice_and_another_prompt_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut task, mut set) = task(folder.path(), 3);
    let path = folder.path().join("record.jsonl");
    let whole = measure(&task, &set, &mut mock(&task, &set, |_| true), &path);
    let text = std::fs::read_to_string(&path).unwrap();
    let last = text.lines().last().unwrap();
    std::fs::write(&path, format!("{text}{last}\n")).unwrap();
    for error in [
        crate::Evaluation::from_record(&path).unwrap_err().to_string(),
        RecordWriter::resume(&path, &whole.header).unwrap_err().to_string(),
    ] {
        assert!(error.contains("`r2` stands in the record twice"), "{error}");
        assert!(error.contains("record.jsonl:5") && error.contains("line 4"), "{error}");
    }
    let toml = crate::test_support::TASK.replace("[data]", "user = \"{{ meta.page }}\"\n[data]");
    std::fs::write(folder.path().join("task.toml"), toml).unwrap();
    task = crate::Task::load(folder.path()).unwrap();
    let mut fingerprint_of = |page: usize| {
        set.samples.iter_mut().for_each(|sample| {
            sample.meta.insert("page".into(), page.into());
        });
        let path = folder.path().join(format!("page-{page}.jsonl"));
        let mut model = crate::mock::MockModel::constant("m", "no");
        measure(&task, &set, &mut model, &path).header.data_fingerprint
    };
    assert_ne!(fingerprint_of(1), fingerprint_of(2), "what a template reads of meta is part of the data");
}

#[test]
fn a_broken_line_in_the_middle_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (task, set) = task(folder.path(), 3);
    let path = folder.path().join("record.jsonl");
    measure(&task, &set, &mut mock(&task, &set, |_| true), &path);
    let text = std::fs::read_to_string(&path).unwrap().replacen("\"r1\"", "\"r1", 1);
    std::fs::write(&path, &text).unwrap();
    let error = Record::read(&path).unwrap_err().to_string();
    assert!(error.contains("record.jsonl:3"), "{error}");
    for (content, part) in [
        ("", "empty"),
        ("{}\n", "without a version"),
        ("hello\n", "not a record"),
        ("{\"version\":99}\n", "newer version"),
        ("{\"version\":1}\n", "not a record"),
    ] {
        std::fs::write(&path, content).unwrap();
        let error = Record::read(&path).expect_err(content).to_string();
        assert!(error.contains(part), "{content}: {error}");
    }
}

#[test]
fn the_record_of_version_1_stays_readable() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/record.v1.jsonl");
    let record = Record::read(&path).unwrap();
    assert_eq!((record.header.version, record.header.n, record.samples.len()), (1, 4, 4));
    let evaluation = crate::Evaluation::from_record(&path).unwrap();
    assert_eq!(evaluation.score, Some(0.625));
    assert_eq!(evaluation.metrics["valid"].value, Some(0.75));
    assert_eq!(evaluation.unanswered(), 1);
    // What is written today is still what was written then.
    let lines = std::fs::read_to_string(&path).unwrap();
    let mut lines = lines.lines();
    assert_eq!(serde_json::to_string(&record.header).unwrap(), lines.next().unwrap());
    for sample in &record.samples {
        assert_eq!(serde_json::to_string(sample).unwrap(), lines.next().unwrap());
    }
}

#[test]
fn a_record_has_one_writer_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let (task, set) = task(folder.path(), 2);
    let path = folder.path().join("record.jsonl");
    let whole = measure(&task, &set, &mut mock(&task, &set, |_| true), &path);
    let (first, _) = RecordWriter::resume(&path, &whole.header).unwrap();
    let error = RecordWriter::resume(&path, &whole.header).unwrap_err();
    assert!(error.to_string().contains("another process is writing this record"), "{error}");
    drop(first);
    assert!(RecordWriter::resume(&path, &whole.header).is_ok());
}

#[test]
fn answers_that_were_judged_by_other_fields_are_not_mixed_in() {
    let folder = tempfile::tempdir().unwrap();
    let (task, mut set) = task(folder.path(), 3);
    let path = folder.path().join("record.jsonl");
    let mut model = mock(&task, &set, |_| true);
    set.samples.iter_mut().for_each(|sample| drop(sample.meta.insert("truth".into(), "x".into())));
    measure(&task, &set, &mut model, &path);
    let resume = EvalSettings { resume: true, ..settings(&path) };
    let mut again = |set: &crate::split::EvalSet| {
        evaluate(&task, set, &mut model, &resume, &mut |_| ControlFlow::Continue(()))
    };
    assert!(again(&set).is_ok());
    set.samples[1].meta.insert("truth".into(), "y".into());
    let error = again(&set).unwrap_err();
    assert!(error.kind() == Kind::Usage && error.to_string().contains("rows have changed"), "{error}");
}
