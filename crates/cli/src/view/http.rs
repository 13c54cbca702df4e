//! As much of HTTP as a browser on the same machine needs to read pages: one GET a connection. Everything that comes in is
//! bounded in size and time.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

/// A longer head is refused.
const LONGEST_HEAD: usize = 16 << 10;
/// A head that takes longer is dropped.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a page may do: its own style and scripts, and ask this server.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The path, decoded.
    pub path: String,
    /// The value of the `Host` header.
    pub host: String,
    /// Whether only the head is wanted.
    pub head_only: bool,
}

/// An answer.
pub struct Response {
    /// `200`, `404`, …
    pub status: u16,
    /// The media type.
    pub kind: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// A page or a text.
    pub fn new(status: u16, kind: &'static str, body: impl Into<Vec<u8>>) -> Response {
        Response { status, kind, body: body.into() }
    }

    /// A line of text.
    pub fn text(status: u16, line: &str) -> Response {
        Response::new(status, "text/plain; charset=utf-8", format!("{line}\n"))
    }
}

/// Reads a request; a response in its place where it is none.
pub fn read(stream: &mut TcpStream) -> Result<Request, Response> {
    let start = Instant::now();
    // A stream without the bound would wait for ever on a silent peer.
    if stream.set_read_timeout(Some(PATIENCE)).is_err()
        || stream.set_write_timeout(Some(PATIENCE * 6)).is_err()
    {
        return Err(Response::text(500, "no time limits here"));
    }
    let mut head = Vec::new();
    let mut part = [0; 2048];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut part) {
            Ok(n) if n > 0 && start.elapsed() < PATIENCE => head.extend_from_slice(&part[..n]),
            _ => return Err(Response::text(400, "the request is not whole")),
        }
        if head.len() > LONGEST_HEAD {
            return Err(Response::text(431, "the request is too long"));
        }
    }
    parse(&String::from_utf8_lossy(&head))
}

fn parse(head: &str) -> Result<Request, Response> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !matches!(method, "GET" | "HEAD") {
        return Err(Response::text(405, "only GET"));
    }
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let Some(path) = decoded(path).filter(|path| path.starts_with('/')) else {
        return Err(Response::text(400, "the address cannot be read"));
    };
    let host =
        lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = host.map(|(_, value)| value.trim().to_owned()).unwrap_or_default();
    Ok(Request { path, host, head_only: method == "HEAD" })
}

/// The text behind %XX; `None` where it is no UTF-8 or a % stands alone.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Whether a request that came over loopback names this machine. A page from elsewhere whose name was made to point here
/// would read the runs otherwise.
pub fn names_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Sends the answer; a peer that has gone away is no error.
pub fn send(stream: &mut TcpStream, response: &Response, head_only: bool) {
    let words = match response.status {
        200 => "OK",
        404 => "Not Found",
        500 => "Internal Server Error",
        _ => "Bad Request",
    };
    let head = format!(
        "HTTP/1.1 {} {words}\r\nContent-Type: {}\r\nContent-Length: {}\r\nContent-Security-Policy: {POLICY}\r\n\
         X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-store\r\n\
         Cross-Origin-Resource-Policy: same-origin\r\nConnection: close\r\n\r\n",
        response.status,
        response.kind,
        response.body.len()
    );
    let sent = stream.write_all(head.as_bytes()).and_then(|()| match head_only {
        true => Ok(()),
        false => stream.write_all(&response.body),
    });
    let _ = sent.and_then(|()| stream.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_and_others_refused() {
        let head = "GET /run/a%20b%2Fc?x=1 HTTP/1.1\r\nhOST: localhost:7423\r\n\r\n";
        let request = parse(head).ok().unwrap();
        assert_eq!((request.path.as_str(), request.host.as_str()), ("/run/a b/c", "localhost:7423"));
        let refused = |head: &str| parse(head).err().unwrap().status;
        assert_eq!(refused("POST / HTTP/1.1\r\n\r\n"), 405);
        for bad in ["GET /%zz HTTP/1.1", "GET /%ff HTTP/1.1", "GET /% HTTP/1.1", "GET x HTTP/1.1", "GET", ""]
        {
            assert!(refused(bad) >= 400, "{bad}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["localhost", "localhost:7423", "127.0.0.1:1", "[::1]:7423", "LOCALHOST"] {
            assert!(names_loopback(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:7423", "127.0.0.1.evil.example", "10.0.0.1:80"] {
            assert!(!names_loopback(host), "{host}");
        }
    }
}
