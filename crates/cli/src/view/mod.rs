//! The local viewer: a small server over the standard library that shows the records of all runs under a folder. It reads
//! and never writes. What can be asked for is `/`, `/runs.json` and `/run/ID`, where ID is one of those that `scan` found:
//! nothing that is asked for is ever made into a path.

mod http;
mod scan;

use crate::environment::Environment;
use crate::records::{Found, Making, report};
use http::{Request, Response};
use scan::{Run, Scanner};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use underdog_eval::report::{STYLE, THEME};
use underdog_eval::{Error, Kind, Result};
use underdog_model::catalogue::Cache;

/// More connections at once than a browser opens are turned away.
const MOST_CONNECTIONS: usize = 32;
const HTML: &str = "text/html; charset=utf-8";

/// A bound listener and what it shows.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shown: Arc<Shown>,
}

/// What connections share.
struct Shown {
    folder: PathBuf,
    cache: Cache,
    loopback: bool,
    scanner: Mutex<Scanner>,
    /// The page made last, by run and state of its files: pages are looked at more than once.
    page: Mutex<Option<(String, String)>>,
    open: AtomicUsize,
}

impl Server {
    /// Takes the port.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn bind(folder: &Path, (host, port): (IpAddr, u16), cache: &Cache) -> Result<Server> {
        let wanted = SocketAddr::new(host, port);
        let taken = |error: std::io::Error| {
            Error::new(Kind::System, "cannot listen on this address")
                .found(error.to_string())
                .at(wanted.to_string())
                .hint("name another port with --port, or 0 for a free one")
        };
        let listener = TcpListener::bind(wanted).map_err(taken)?;
        let address = listener.local_addr().map_err(taken)?;
        let shown = Shown {
            folder: folder.to_owned(),
            cache: cache.clone(),
            loopback: host.is_loopback(),
            scanner: Mutex::default(),
            page: Mutex::default(),
            open: AtomicUsize::new(0),
        };
        Ok(Server { listener, address, shown: Arc::new(shown) })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Answers until the program is ended.
    ///
    /// # Errors
    /// When the listener breaks.
    pub fn serve(&self, environment: &Environment) -> Result<()> {
        // From here on there is nothing to finish first when Ctrl-C comes.
        environment.idle.store(true, Ordering::Relaxed);
        for stream in self.listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let shown = self.shown.clone();
            if shown.open.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
                shown.open.fetch_sub(1, Ordering::Relaxed);
                http::send(&mut stream, &Response::text(503, "too many connections"), false);
                continue;
            }
            std::thread::spawn(move || {
                answer(&shown, &mut stream);
                shown.open.fetch_sub(1, Ordering::Relaxed);
            });
        }
        Ok(())
    }
}

fn answer(shown: &Shown, stream: &mut TcpStream) {
    match http::read(stream) {
        Ok(request) => http::send(stream, &shown.respond(&request), request.head_only),
        Err(refusal) => {
            http::send(stream, &refusal, false);
            http::finish(stream);
        }
    }
}

impl Shown {
    fn respond(&self, request: &Request) -> Response {
        if self.loopback && !http::names_loopback(&request.host) {
            return Response::text(403, "this address is for this machine only");
        }
        match request.path.as_str() {
            "/" => Response::new(200, HTML, index()),
            "/runs.json" => match serde_json::to_vec(&self.runs()) {
                Ok(json) => Response::new(200, "application/json", json),
                Err(error) => Response::text(500, &error.to_string()),
            },
            path => match path.strip_prefix("/run/") {
                Some(id) => self.run(id),
                None => Response::text(404, "there is no such page"),
            },
        }
    }

    fn runs(&self) -> Vec<Run> {
        // A thread that panicked left nothing half done in here.
        let mut scanner = self.scanner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        scanner.scan(&self.folder)
    }

    /// The report of a run, of its finished records.
    fn run(&self, id: &str) -> Response {
        let Some(run) = self.runs().into_iter().find(|run| run.id == id) else {
            return Response::text(404, "there is no such run");
        };
        let finished: Vec<Found> = run.finished();
        if finished.is_empty() {
            return Response::text(
                404,
                "nothing of this run is finished yet; its progress is on the first page",
            );
        }
        let key = run.state();
        let mut page = self.page.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((known, html)) = page.as_ref()
            && *known == key
        {
            return Response::new(200, HTML, html.as_str());
        }
        let folder = run.folder.clone();
        let making =
            Making { folder: Some(&folder), advice: None, task: None, seed: None, cache: &self.cache };
        match report(&finished, &making).and_then(|data| data.html()) {
            Ok(html) => {
                *page = Some((key, html.clone()));
                Response::new(200, HTML, html)
            }
            Err(error) => Response::text(500, &error.to_string()),
        }
    }
}

fn index() -> String {
    // The style and the scripts are ours: nothing in them comes from runs.
    include_str!("index.html")
        .replace("{{style}}", STYLE)
        .replace("{{own style}}", include_str!("index.css"))
        .replace("{{theme}}", THEME)
        .replace("{{script}}", include_str!("index.js"))
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
