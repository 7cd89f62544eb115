//! A service on this machine that answers as a test says, for what real servers do not show.
#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| &**value)
    }

    /// Whether it is this method, and its address holds the text.
    pub(crate) fn is(&self, method: &str, text: &str) -> bool {
        self.method == method && self.path.contains(text)
    }
}

/// What comes back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// So many bytes less than announced.
    short: usize,
    /// The connection ends without an answer.
    none: bool,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![], body: body.into(), short: 0, none: false }
    }

    /// An error as S3 has it.
    pub(crate) fn error(status: u16, code: &str) -> Self {
        let text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
        Self::new(status, format!("{text}<Error><Code>{code}</Code><Message>said the stub</Message></Error>"))
    }

    /// The request is read, and the connection ends.
    pub(crate) fn lost() -> Self {
        Self { none: true, ..Self::new(0, "") }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The connection ends so many bytes before the end of the body.
    pub(crate) fn short_by(mut self, bytes: usize) -> Self {
        self.short = bytes;
        self
    }
}

type Handler = dyn FnMut(&Request) -> Answer + Send;

/// It ends with the test.
pub(crate) struct Stub {
    pub(crate) address: String,
    log: Arc<Mutex<Vec<Request>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stub {
    /// Answers each request by `handler`, one at a time.
    pub(crate) fn new(handler: impl FnMut(&Request) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (log, ends) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let mut handler: Box<Handler> = Box::new(handler);
        let (seen, over) = (Arc::clone(&log), Arc::clone(&ends));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let Some(request) = read(&stream) else { continue };
                let answer = handler(&request);
                seen.lock().unwrap().push(request.clone());
                reply(&stream, &request, &answer);
            }
        });
        Self { address, log, ends, thread: Some(thread) }
    }

    /// Answers requests on threads of their own, many at a time.
    pub(crate) fn at_once(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (log, ends) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (seen, over, handler) = (Arc::clone(&log), Arc::clone(&ends), Arc::new(handler));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (seen, handler) = (Arc::clone(&seen), Arc::clone(&handler));
                thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    let answer = handler(&request);
                    seen.lock().unwrap().push(request.clone());
                    reply(&stream, &request, &answer);
                });
            }
        });
        Self { address, log, ends, thread: Some(thread) }
    }

    /// All that was asked so far.
    pub(crate) fn log(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// How often something was asked.
    pub(crate) fn count(&self, method: &str, text: &str) -> usize {
        self.log().iter().filter(|request| request.is(method, text)).count()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        // Wakes it up.
        let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let request = Request { method, path, headers, body: Vec::new() };
    if request.header("expect").is_some() {
        (&*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let len = request.header("content-length").map_or(0, |len| len.parse().unwrap());
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    Some(Request { body, ..request })
}

/// Every answer ends its connection, so that each request comes on one of its own.
fn reply(mut stream: &TcpStream, request: &Request, answer: &Answer) {
    if !answer.none {
        let mut head = format!("HTTP/1.1 {} Said\r\nconnection: close\r\n", answer.status);
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !answer.headers.iter().any(|(name, _)| name == "content-length") && answer.status != 204 {
            head += &format!("content-length: {}\r\n", answer.body.len());
        }
        let _ = stream.write_all(format!("{head}\r\n").as_bytes());
        if request.method != "HEAD" {
            let _ = stream.write_all(&answer.body[..answer.body.len() - answer.short]);
        }
        let _ = stream.flush();
    }
    let _ = stream.shutdown(Shutdown::Both);
}
