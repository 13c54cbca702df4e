//! The server from outside: what is shown, and that nothing else can be had.

use super::*;
use std::io::{Read, Write};

const RECORD: &str = include_str!("../../../eval/tests/data/record.v1.jsonl");

fn start(folder: &Path) -> SocketAddr {
    let cache = Cache::at(folder.join("cache"));
    let server = Server::bind(folder, (IpAddr::from([127, 0, 0, 1]), 0), &cache).unwrap();
    let address = server.address;
    std::thread::spawn(move || {
        for stream in server.listener.incoming() {
            answer(&server.shown, &mut stream.unwrap());
        }
    });
    address
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

#[test]
fn runs_and_their_reports_are_shown_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let runs = root.path().join("runs");
    let run = runs.join("receipts/eval 1");
    std::fs::create_dir_all(&run).unwrap();
    std::fs::write(run.join("record.jsonl"), RECORD).unwrap();
    std::fs::write(root.path().join("secret.jsonl"), RECORD).unwrap();
    std::fs::write(run.join("secret.txt"), "secret").unwrap();
    let address = start(&runs);
    let json = get(address, "/runs.json");
    let list: serde_json::Value = serde_json::from_str(json.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!((list.as_array().unwrap().len(), &list[0]["id"]), (1, &"receipts/eval 1".into()));
    assert_eq!(list[0]["records"][0]["done"], list[0]["records"][0]["n"]);
    assert!(get(address, "/").contains("Leaderboard"));
    let page = get(address, "/run/receipts/eval%201");
    assert!(
        page.starts_with("HTTP/1.1 200") && page.contains("Score card"),
        "{}",
        &page[..300.min(page.len())]
    );
    assert!(page.contains("default-src 'none'") && page.contains("nosniff"));
    for outside in [
        "/run/..",
        "/run/../secret",
        "/run/%2e%2e/secret.jsonl",
        "/run//etc/passwd",
        "/run/receipts/eval%201/secret.txt",
        "/run/receipts/../receipts/eval%201",
        "/secret.txt",
        "/run/",
        "/run/receipts%2F..%2F..%2F",
    ] {
        let answer = get(address, outside);
        assert!(answer.starts_with("HTTP/1.1 404") && !answer.contains("secret\n"), "{outside}: {answer}");
    }
}

#[test]
fn other_hosts_methods_and_broken_requests_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let address = start(root.path());
    assert!(
        ask(address, "GET /runs.json HTTP/1.1\r\nHost: evil.example\r\n\r\n").starts_with("HTTP/1.1 403")
    );
    assert!(ask(address, "GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 403"));
    assert!(ask(address, "POST / HTTP/1.1\r\nHost: localhost\r\n\r\n").starts_with("HTTP/1.1 405"));
    assert!(ask(address, &format!("GET /{} HTTP/1.1\r\n", "a".repeat(40_000))).starts_with("HTTP/1.1 431"));
    assert!(get(address, "/runs.json").ends_with("[]"));
}

#[test]
fn a_run_that_goes_on_shows_how_far_it_is() {
    let root = tempfile::tempdir().unwrap();
    let lines: Vec<&str> = RECORD.lines().collect();
    std::fs::write(root.path().join("base.jsonl"), format!("{}\n{}\n", lines[0], lines[1])).unwrap();
    let step = r#"{"step":3,"epoch":0.5,"loss":1.25,"grad_norm":1.0,"learning_rate":0.1,"mean_token_accuracy":0.5,"num_tokens":10,"tree_tokens":9,"seconds":2.0}"#;
    std::fs::write(root.path().join("metrics.jsonl"), format!("{step}\n{{\"step\":")).unwrap();
    let mut scanner = Scanner::default();
    let runs = scanner.scan(root.path());
    assert_eq!((runs[0].state, runs[0].id.as_str(), runs[0].finished().len()), ("running", ".", 0));
    let (record, training) = (&runs[0].records[0], runs[0].training.as_ref().unwrap());
    assert!(record.done == 1 && record.n > 1 && record.role == "base");
    assert_eq!((training.step, training.loss), (3, 1.25));
    // Long quiet: it goes on only as long as somebody holds a file of it.
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(1000);
    for name in ["base.jsonl", "metrics.jsonl"] {
        let file = std::fs::File::options().append(true).open(root.path().join(name)).unwrap();
        file.set_modified(old).unwrap();
    }
    assert_eq!(scanner.scan(root.path())[0].state, "stopped");
    let lock = std::fs::File::create(root.path().join(".lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(scanner.scan(root.path())[0].state, "running");
    drop(lock);
    assert_eq!(scanner.scan(root.path())[0].state, "stopped");
    std::fs::write(root.path().join("base.jsonl"), RECORD).unwrap();
    std::fs::create_dir(root.path().join("adapter")).unwrap();
    let runs = scanner.scan(root.path());
    assert_eq!((runs[0].state, runs[0].finished().len()), ("finished", 1));
    // What `advise` measured with fewer rows is shown, but not beside candidates that saw all of them.
    std::fs::create_dir(root.path().join("points")).unwrap();
    std::fs::copy(root.path().join("base.jsonl"), root.path().join("points/linear-18.jsonl")).unwrap();
    let runs = scanner.scan(root.path());
    let points: Vec<_> = runs.iter().map(|run| (run.id.as_str(), run.points)).collect();
    assert!(points.contains(&(".", false)) && points.contains(&("points", true)), "{points:?}");
}
