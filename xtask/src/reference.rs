//! How the expected numbers of the tests are made: the scripts of `reference/`, in their order, with their arguments.
//!
//! The numbers are committed and no test runs Python. What they mean is said in `reference/README.md`.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use crate::repository::Repository;
use crate::tidy::{Finding, finding};

/// One run of one script.
struct Step {
    /// File in `reference/`.
    script: &'static str,
    /// Arguments; `{weights}`, `{smollm2}` and `{gemma3}` stand for the model cache and files in it.
    arguments: &'static [&'static str],
    /// Where its standard output goes, if it does not write files itself.
    output: Option<&'static str>,
    /// What it needs beside `reference/requirements.txt`.
    needs: Option<&'static str>,
}

const GOLDENS: &str = "crates/testkit/goldens";
/// Files in the model cache, by the name that stands for them.
const FILES: [(&str, &str); 3] = [
    ("{minilm}", "all-minilm-l6-v2"),
    ("{smollm2}", "smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf"),
    ("{gemma3}", "gemma-3-270m/gemma-3-270m-q4_k_m.gguf"),
];
/// Modules that the scripts share.
const MODULES: [&str; 2] = ["adapters.py", "common.py"];
/// Scripts that make no golden: two check something of ours, one draws the rows of built-in tasks from sets that are not here.
const NO_GOLDEN: [&str; 3] = ["check_adapter.py", "export_llamacpp.py", "task_slices.py"];

const fn step(script: &'static str, arguments: &'static [&'static str]) -> Step {
    Step { script, arguments, output: None, needs: None }
}

/// In this order: later scripts read what earlier ones wrote.
const STEPS: [Step; 17] = [
    step("tiny_models.py", &["--goldens", GOLDENS]),
    step("peft_adapters.py", &["--goldens", GOLDENS]),
    step("lora_loss_curve.py", &["tiny", "--goldens", GOLDENS]),
    step("dequantize.py", &[]),
    step("quantize.py", &[]),
    step("rope.py", &[]),
    Step {
        script: "statistics_goldens.py",
        arguments: &[],
        output: Some("crates/eval/tests/data/statistics.json"),
        needs: Some("scipy, statsmodels"),
    },
    step("lora_loss_curve.py", &["smollm2", "--goldens", GOLDENS, "--gguf", "{smollm2}"]),
    step("logits.py", &["smollm2", "--goldens", GOLDENS, "--gguf", "{smollm2}"]),
    step("logits.py", &["gemma3", "--goldens", GOLDENS, "--gguf", "{gemma3}"]),
    step("embeddings.py", &["tiny", "--goldens", GOLDENS]),
    step("embeddings.py", &["minilm", "--goldens", GOLDENS, "--model", "{minilm}"]),
    Step {
        script: "logistic.py",
        arguments: &[],
        output: Some("crates/eval/tests/data/logistic.json"),
        needs: None,
    },
    step("chat.py", &["{weights}"]),
    Step {
        script: "token_ids.py",
        arguments: &["{weights}"],
        output: None,
        needs: Some("llama-cpp-python, `ulimit -s unlimited`"),
    },
    Step {
        script: "scorers_goldens.py",
        arguments: &[],
        output: Some("crates/eval/tests/data/scorers.json"),
        needs: Some("rouge-score, sacrebleu, scikit-learn, scipy"),
    },
    step("embeddings.py", &["similarity", "--goldens", GOLDENS, "--model", "{minilm}"]),
];

/// What was asked for on the command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options<'a> {
    python: Option<&'a str>,
    weights: Option<&'a str>,
}

impl<'a> Options<'a> {
    fn parse(words: &[&'a str]) -> Result<Self, String> {
        let mut options = Options::default();
        for pair in words.chunks(2) {
            match pair {
                ["--run", python] => options.python = Some(python),
                ["--weights", folder] => options.weights = Some(folder),
                _ => return Err(format!("`{}`: expected --run PYTHON or --weights FOLDER", pair.join(" "))),
            }
        }
        Ok(options)
    }
}

impl Step {
    /// Whether it reads real weights.
    fn wants_weights(&self) -> bool {
        self.arguments.iter().any(|argument| argument.starts_with('{'))
    }

    /// The arguments with the names of files filled in.
    fn resolved(&self, weights: &str) -> Vec<String> {
        let fill = |argument: &&str| match FILES.iter().find(|(name, _)| name == argument) {
            Some((_, file)) => format!("{weights}/{file}"),
            None => argument.replace("{weights}", weights),
        };
        self.arguments.iter().map(fill).collect()
    }

    /// The command as a person would type it.
    fn line(&self, python: &str, weights: &str) -> String {
        let mut words = vec![python.to_string(), format!("reference/{}", self.script)];
        words.extend(self.resolved(weights));
        words.extend(self.output.map(|file| format!("> {file}")));
        words.extend(self.needs.map(|needs| format!("  # also needs {needs}")));
        words.join(" ")
    }

    fn run(&self, root: &Path, python: &str, weights: &str) -> Result<(), String> {
        let mut command = Command::new(python);
        command.current_dir(root).arg(format!("reference/{}", self.script)).args(self.resolved(weights));
        if let Some(output) = self.output {
            // Only a whole output replaces the golden.
            let temporary = root.join(format!("{output}.new"));
            let file =
                File::create(&temporary).map_err(|error| format!("{}: {error}", temporary.display()))?;
            finish(command.stdout(file), self.script)?;
            return std::fs::rename(&temporary, root.join(output))
                .map_err(|error| format!("{output}: {error}"));
        }
        finish(&mut command, self.script)
    }
}

fn finish(command: &mut Command, script: &str) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{script} does not start: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{script} failed: {status}")) }
}

/// Prints the steps, or runs them with the Python that `--run` names.
pub fn run(root: &Path, words: &[&str]) -> Result<bool, String> {
    let options = Options::parse(words)?;
    let weights = options.weights.unwrap_or("WEIGHTS");
    let Some(python) = options.python else {
        println!("pip install -r reference/requirements.txt");
        for step in &STEPS {
            println!("{}", step.line("python", weights));
        }
        println!(
            "# WEIGHTS is the model cache. No step runs {}, which make no golden.",
            NO_GOLDEN.join(", ")
        );
        return Ok(true);
    };
    for step in &STEPS {
        if step.wants_weights() && options.weights.is_none() {
            println!("left out, no --weights: {}", step.line(python, weights));
            continue;
        }
        println!("{}", step.line(python, weights));
        step.run(root, python, weights)?;
    }
    println!("done; `git diff --stat` shows what changed");
    Ok(true)
}

/// Scripts that no step runs, and steps whose script is gone, for `tidy`.
pub fn unlisted(repository: &Repository) -> Vec<Finding> {
    let listed = |name: &str| {
        STEPS.iter().any(|step| step.script == name) || MODULES.contains(&name) || NO_GOLDEN.contains(&name)
    };
    let here = "xtask/src/reference.rs";
    let mut findings = Vec::new();
    for (path, _) in repository.texts(".py") {
        if path.strip_prefix("reference/").is_some_and(|name| !listed(name)) {
            findings.push(finding(
                path,
                None,
                "a script that no step runs",
                format!("a line for it in {here}"),
            ));
        }
    }
    if repository.exists("reference") {
        let gone = STEPS
            .iter()
            .map(|step| step.script)
            .filter(|name| !repository.exists(&format!("reference/{name}")));
        findings.extend(
            gone.map(|name| finding(here, None, format!("a step runs `{name}`"), "a script that exists")),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_others_refused() {
        let both = Options { python: Some("python3"), weights: Some("cache") };
        assert_eq!(Options::parse(&["--weights", "cache", "--run", "python3"]), Ok(both));
        assert!(Options::parse(&["--run"]).is_err());
        assert!(Options::parse(&["--fast", "x"]).is_err());
    }

    #[test]
    fn a_command_names_the_weights_in_the_cache() {
        let gemma = STEPS.iter().rfind(|step| step.script == "logits.py").expect("one is listed");
        let line = gemma.line("python", "cache");
        assert!(line.ends_with("--gguf cache/gemma-3-270m/gemma-3-270m-q4_k_m.gguf"), "{line}");
        assert!(gemma.wants_weights() && !STEPS[0].wants_weights());
    }

    #[test]
    fn a_script_that_nobody_runs_is_found() {
        let mut files = vec![("reference/new.py", ""), ("reference/common.py", "")];
        let paths: Vec<String> =
            STEPS.iter().skip(1).map(|step| format!("reference/{}", step.script)).collect();
        files.extend(paths.iter().map(|path| (path.as_str(), "")));
        let findings = unlisted(&Repository::of(&files));
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert_eq!(findings[0].path, "reference/new.py");
        assert_eq!(findings[1].what, "a step runs `tiny_models.py`");
    }
}
