//! A container on its way in parts: one thread encrypts, the store's future takes, and at most a few parts wait between.

use std::io::{self, Write};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::location::drive::PartSource;
use crate::{Error, ErrorKind, Result};

/// How many bytes of parts may wait, but one part always: while one is sent and one is made, more keep both busy.
const WAITING: usize = 8 << 20;

enum Message {
    Part(Bytes),
    /// There are no more, and the source was still the same afterwards; the length of its plaintext.
    End(u64),
    Failed(Error),
}

/// The parts as the store takes them. The thread that makes them starts with the first one wanted: only then is their
/// length known.
pub(in crate::ops) struct Parts<F> {
    start: Option<F>,
    /// The length of all parts together, if that is known.
    size: Option<u64>,
    receiver: Option<mpsc::Receiver<Message>>,
    spare: Option<mpsc::Sender<BytesMut>>,
    /// The part that was given last: once the store has let go of it, its memory is used again.
    given: Option<Bytes>,
    plain_len: u64,
}

impl<F: FnOnce(PartWriter) -> Result<()> + Send> Parts<F> {
    /// Parts that `start` makes another thread write; `size` in all, if that is known.
    pub(in crate::ops) fn new(size: Option<u64>, start: F) -> Self {
        Self { start: Some(start), size, receiver: None, spare: None, given: None, plain_len: 0 }
    }

    /// The length of the plaintext, once all parts were taken.
    pub(in crate::ops) fn plain_len(&self) -> u64 {
        self.plain_len
    }

    fn begin(&mut self, start: F, len: usize) -> Result<()> {
        let waiting = (WAITING / len.max(1)).clamp(1, 8);
        let (sender, receiver) = mpsc::channel(waiting);
        let (spare, spares) = mpsc::channel(waiting + 2);
        (self.receiver, self.spare) = (Some(receiver), Some(spare));
        let most = self.size.and_then(|size| usize::try_from(size).ok()).map_or(len, |size| size.min(len));
        start(PartWriter { sender, spares, len, most, part: BytesMut::new() })
    }

    fn reuse(&mut self) {
        if let (Some(given), Some(spare)) = (self.given.take(), &self.spare)
            && let Ok(mut bytes) = given.try_into_mut()
        {
            bytes.clear();
            // Where there are enough, this one goes.
            let _ = spare.try_send(bytes);
        }
    }
}

#[async_trait]
impl<F: FnOnce(PartWriter) -> Result<()> + Send> PartSource for Parts<F> {
    async fn next(&mut self, len: usize) -> Result<Option<Bytes>> {
        if let Some(start) = self.start.take() {
            self.begin(start, len)?;
        }
        self.reuse();
        let message = match &mut self.receiver {
            Some(receiver) => receiver.recv().await,
            None => None,
        };
        match message {
            Some(Message::Part(part)) => {
                self.given = Some(part.clone());
                Ok(Some(part))
            }
            Some(Message::End(plain_len)) => {
                self.plain_len = plain_len;
                // Whoever asks again gets no error.
                let (sender, receiver) = mpsc::channel(1);
                let _ = sender.try_send(Message::End(plain_len));
                self.receiver = Some(receiver);
                Ok(None)
            }
            Some(Message::Failed(error)) => Err(error),
            None => Err(Error::new(ErrorKind::Interrupted, "the thread that encrypts has stopped")),
        }
    }
}

/// Where the encrypting thread writes. The last part, whatever its length, leaves only with [`Self::end`].
pub(in crate::ops) struct PartWriter {
    sender: mpsc::Sender<Message>,
    spares: mpsc::Receiver<BytesMut>,
    len: usize,
    /// How much one part can hold at most.
    most: usize,
    part: BytesMut,
}

impl PartWriter {
    /// Ends the parts, well or not.
    pub(in crate::ops) fn end(mut self, done: Result<u64>) {
        let last = match done {
            Ok(_) if !self.part.is_empty() => self.send(),
            _ => Ok(()),
        };
        let message = match done {
            Ok(plain_len) => Message::End(plain_len),
            Err(error) => Message::Failed(error),
        };
        // Where nobody takes them any more, it is known there why.
        let _ = last.and_then(|()| self.sender.blocking_send(message).map_err(|_| gone()));
    }

    fn send(&mut self) -> io::Result<()> {
        let part = self.part.split_to(self.part.len()).freeze();
        self.part = BytesMut::new();
        self.sender.blocking_send(Message::Part(part)).map_err(|_| gone())
    }
}

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.len() == self.len && !bytes.is_empty() {
            self.send()?;
        }
        if self.part.capacity() == 0 {
            self.part = self.spares.try_recv().unwrap_or_else(|_| BytesMut::with_capacity(self.most));
        }
        let taken = bytes.len().min(self.len - self.part.len());
        self.part.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes the parts any more")
}
