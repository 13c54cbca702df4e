//! The example in README.md works as it stands.

use super::home::Home;

/// The block of code after a marker.
fn block<'a>(text: &'a str, marker: &str) -> &'a str {
    let rest = text.split_once(marker).unwrap_or_else(|| panic!("README.md has no {marker}")).1;
    let inside = rest.split_once("```").unwrap().1.split_once('\n').unwrap().1;
    inside.split_once("```").unwrap().0
}

#[test]
fn the_task_in_the_readme_runs() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).unwrap();
    let home = Home::new();
    let rows = block(&readme, "<!-- example rows -->");
    let (train, test) = rows.split_at(rows.rfind("{\"input\"").unwrap());
    home.write("mail/train.jsonl", train);
    home.write("mail/test.jsonl", test);
    home.write("mail/task.toml", block(&readme, "<!-- example task -->"));
    home.run("eval mail --model TINY").fails(0, &[]);
    assert!(home.run("train mail --model TINY --preview").stdout.contains("⟦<|im_end|>⟧"));
    let object = home.run("run mail --model TINY --set steps=2 --json").json();
    assert_eq!(object["task"], "mail");
    assert_eq!(object["report"], "underdog-runs/mail/run-001/report.html");
}
