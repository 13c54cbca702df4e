//! A folder with a small task, and running the program in it.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;
use underdog_testkit::golden;

/// The task of the tests. Rows are in `train.jsonl`, `validation.jsonl` and `test.jsonl`.
const TASK: &str = r#"
version = 1
name = "numbers"
max_new_tokens = 8
score = "right"
[prompt]
system = "Write the number as a word."
[data]
train = "train.jsonl"
validation = "validation.jsonl"
test = "test.jsonl"
[[check]]
name = "word"
kind = "exact"
[[metric]]
name = "right"
checks = ["word"]
[recipe]
batch = 4
rank = 2
lr = 5e-3
steps = 6
save_every = 2
"#;

/// A temporary folder with the task in `task/`, removed when it is dropped.
pub struct Home {
    folder: TempDir,
}

/// How a run of the program ended.
pub struct Done {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    fn new(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program writes UTF-8");
        Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The one object on stdout of a run that went well.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.object()
    }

    /// The one object on stdout, on one line and with nothing around it.
    pub fn object(&self) -> Value {
        assert_eq!(self.stdout.matches('\n').count(), 1, "one line: {}", self.stdout);
        let value: Value = serde_json::from_str(&self.stdout).expect("stdout holds one JSON value");
        assert!(value.is_object(), "{value}");
        value
    }

    /// Requires this exit code and these words in the message.
    pub fn fails(&self, code: i32, words: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not in:\n{}", self.stderr);
        }
        self
    }
}

/// Rows `number i` → `answer i` with ids `row-i`.
pub fn rows(range: std::ops::Range<usize>) -> String {
    let row = |i| {
        format!(
            "{}\n",
            json!({"id": format!("row-{i}"), "input": format!("number {i}"), "expected": format!("answer {i}")})
        )
    };
    range.map(row).collect()
}

/// The tiny model's folder.
pub fn tiny() -> String {
    golden("models/tiny-llama").display().to_string()
}

impl Home {
    pub fn new() -> Self {
        let home = Home { folder: tempfile::tempdir().unwrap() };
        home.write("task/task.toml", TASK);
        home.write("task/train.jsonl", rows(0..8));
        home.write("task/validation.jsonl", rows(20..24));
        home.write("task/test.jsonl", rows(30..42));
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    /// Lines of a file that may not be there yet.
    pub fn lines(&self, name: &str) -> usize {
        std::fs::read(self.path(name)).map_or(0, |bytes| bytes.iter().filter(|&&b| b == b'\n').count())
    }

    /// A copy of the tiny model under `name`, to be damaged.
    pub fn copy_of_tiny(&self, name: &str) -> PathBuf {
        for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
            self.write(&format!("{name}/{file}"), std::fs::read(Path::new(&tiny()).join(file)).unwrap());
        }
        self.path(name)
    }

    /// The program with its own empty cache, in the folder. `TINY` among the arguments stands for the tiny model.
    pub fn command(&self, arguments: &str) -> Command {
        self.prepare(Command::new(env!("CARGO_BIN_EXE_underdog")), arguments)
    }

    /// Adds arguments and surroundings to a command that ends up in the program.
    pub fn prepare(&self, mut command: Command, arguments: &str) -> Command {
        command.args(arguments.split_whitespace().map(|word| word.replace("TINY", &tiny())));
        command
            .current_dir(self.folder.path())
            .env("UNDERDOG_CACHE", self.path("cache"))
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &str) -> Done {
        Done::new(self.command(arguments).output().unwrap())
    }

    /// Runs it with something on stdin, which a request that is refused may not read any more.
    pub fn run_with(&self, arguments: &str, stdin: &str) -> Done {
        use std::io::{ErrorKind, Write};
        let mut child = self.start(self.command(arguments).stdin(Stdio::piped()));
        let written = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        assert!(written.map_or_else(|error| error.kind() == ErrorKind::BrokenPipe, |()| true));
        self.end(child)
    }

    /// Starts it in the background.
    pub fn start(&self, command: &mut Command) -> Child {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Waits for its end.
    pub fn end(&self, child: Child) -> Done {
        Done::new(child.wait_with_output().unwrap())
    }
}
