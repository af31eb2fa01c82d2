//! One local program's connection.
//!
//! Its lines are taken one after another, and its next one is not read while an answer is due or
//! much waits to be written, so that a client is slowed down by itself. A line that is too long is
//! answered with an error and skipped. When the client has ended its side it is still told what it
//! subscribed to, until it is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use consort_plugin_host::{LocalAnswer, LocalRequest, LocalRequestError};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;

use super::Ask;
use super::hub::{Client, End, Hub};
use super::line::{self, Heard, LINE_MAX, Op, Said};

/// How long a request may take: a callback of the longest that can be allowed fits in.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(15);
/// Above so many bytes that wait, no further line is read.
const READ_UNTIL_BYTES: usize = 64 << 10;
/// How long a client that is sent away has to read why.
const GOODBYE_MAX: Duration = Duration::from_secs(10);
/// How often to look whether a client that has ended its side is still there.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Serves a client until it goes or is sent away.
pub(super) async fn serve(stream: UnixStream, client: Client, hub: Arc<Hub>, ask: Arc<Ask>) {
    let (read, write) = stream.into_split();
    let connection = Connection {
        client,
        hub,
        ask,
        lines: Lines::new(read),
        write,
        pending: None,
    };
    connection.run().await;
}

struct Connection {
    client: Client,
    hub: Arc<Hub>,
    ask: Arc<Ask>,
    lines: Lines,
    write: OwnedWriteHalf,
    pending: Option<Pending>,
}

/// A request whose answer is due.
struct Pending {
    id: Option<Value>,
    answered: oneshot::Receiver<LocalAnswer>,
    until: Instant,
}

/// The connection is over.
struct Gone;

impl Connection {
    async fn run(mut self) {
        while let Ok(()) = self.turn().await {}
    }

    async fn turn(&mut self) -> Result<(), Gone> {
        let reads = !self.lines.ended
            && self.pending.is_none()
            && self.client.waiting_bytes() < READ_UNTIL_BYTES;
        if self.lines.ended && self.pending.is_none() && self.client.waiting_bytes() == 0 {
            self.check_there()?;
        }
        let ended = self.lines.ended;
        let awaits = self.pending.is_some();
        tokio::select! {
            line = self.client.next() => match line {
                Ok(line) => self.write(&line).await,
                Err(why) => self.say_goodbye(&[], why).await,
            },
            answer = answer(&mut self.pending), if awaits => {
                self.answer(answer);
                Ok(())
            }
            taken = self.lines.next(), if reads => {
                match taken {
                    Ok(Taken::Line(line)) => self.hear(&line),
                    Ok(Taken::TooLong) => {
                        let why = format!("a line has more than {LINE_MAX} bytes; it is skipped");
                        self.client.say(&Said::error("line-too-long", &why, None));
                    }
                    Ok(Taken::End) => {}
                    Err(_) => return Err(Gone),
                }
                Ok(())
            }
            () = tokio::time::sleep(LOOK_EVERY), if ended => Ok(()),
        }
    }

    /// A client that has ended its side and waits for nothing is done with, and so is one that has
    /// closed its socket.
    fn check_there(&self) -> Result<(), Gone> {
        if self.client.listens_to_nothing() || is_closed(&self.write) {
            return Err(Gone);
        }
        Ok(())
    }

    fn hear(&mut self, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        match line::read(line) {
            Ok(Heard { id, op }) => self.act(id, op),
            Err(wrong) => {
                let said = Said::error("not-understood", &wrong.why, wrong.id.as_ref());
                self.client.say(&said);
            }
        }
    }

    fn act(&mut self, id: Option<Value>, op: Op) {
        match op {
            Op::Subscribe { topic } => {
                if let Err(error) = self.client.subscribe(topic, id.as_ref()) {
                    let said = error.to_string();
                    self.client.say(&Said::error("invalid", &said, id.as_ref()));
                }
            }
            Op::Unsubscribe { topic } => self.client.unsubscribe(topic.as_deref(), id.as_ref()),
            Op::Request { topic, payload } => {
                let (tell, answered) = oneshot::channel();
                let until = Instant::now() + ANSWER_MAX;
                // Who asked may have gone.
                let answer = |answer| drop(tell.send(answer));
                let asked = LocalRequest::new(topic, payload, until, answer)
                    .and_then(|request| (self.ask)(self.hub.id(), request));
                match asked {
                    Ok(()) => {
                        self.pending = Some(Pending {
                            id,
                            answered,
                            until,
                        });
                    }
                    Err(error) => self.say_error(&error, id.as_ref()),
                }
            }
        }
    }

    fn answer(&mut self, answer: LocalAnswer) {
        let id = self.pending.take().and_then(|pending| pending.id);
        match answer {
            Ok(payload) => {
                let payload = (&payload[..]).into();
                let id = id.as_ref();
                self.client.say(&Said::Answer { id, payload });
            }
            Err(error) => self.say_error(&error, id.as_ref()),
        }
    }

    fn say_error(&self, error: &LocalRequestError, id: Option<&Value>) {
        let said = error.to_string();
        self.client.say(&Said::error(error.code(), &said, id));
    }

    /// Writes a line, for as long as the client is not sent away.
    async fn write(&mut self, line: &[u8]) -> Result<(), Gone> {
        let mut rest = line;
        while !rest.is_empty() {
            let why = tokio::select! {
                biased;
                why = self.client.ended() => why,
                wrote = self.write.write(rest) => match wrote {
                    Ok(0) | Err(_) => return Err(Gone),
                    Ok(bytes) => {
                        rest.advance(bytes);
                        continue;
                    }
                },
            };
            return self.say_goodbye(rest, why).await;
        }
        Ok(())
    }

    /// Ends the line under way and says why the client is sent away. One that is too slow loses what
    /// waits for it.
    async fn say_goodbye(&mut self, rest: &[u8], why: End) -> Result<(), Gone> {
        let mut last = rest.to_vec();
        while let Some(line) = self.client.next_waiting() {
            if why == End::Closed {
                last.extend_from_slice(&line);
            }
        }
        let said = match why {
            End::TooSlow => {
                Said::error("too-slow", "you did not read what you subscribed to", None)
            }
            End::Closed => Said::error(
                "closed",
                "the plugin was unloaded or reloaded without the capability",
                None,
            ),
        };
        last.extend_from_slice(&said.encode());
        let goodbye = async {
            self.write.write_all(&last).await?;
            self.write.shutdown().await
        };
        // A client that does not even read this has had its time.
        let _ = tokio::time::timeout(GOODBYE_MAX, goodbye).await;
        Err(Gone)
    }
}

/// The answer that is due; none comes where none is.
async fn answer(pending: &mut Option<Pending>) -> LocalAnswer {
    let Some(pending) = pending else {
        return std::future::pending().await;
    };
    let waited = tokio::time::timeout_at(pending.until.into(), &mut pending.answered).await;
    match waited {
        Ok(Ok(answer)) => answer,
        // The request was dropped with its plugin.
        Ok(Err(_)) => Err(LocalRequestError::Unknown),
        Err(_) => Err(LocalRequestError::TimedOut),
    }
}

/// Whether the other side has closed its socket, and not only ended what it sends.
fn is_closed(write: &OwnedWriteHalf) -> bool {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    let ready = pin!(write.ready(Interest::WRITABLE));
    match ready.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(ready)) => ready.is_write_closed(),
        Poll::Ready(Err(_)) => true,
        Poll::Pending => false,
    }
}

/// Takes a stream apart into lines. Nothing is lost if a read is given up.
struct Lines {
    read: OwnedReadHalf,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    looked: usize,
    /// The rest of a line that is too long is being skipped.
    skipping: bool,
    ended: bool,
}

/// What was taken from a stream.
enum Taken {
    /// A line, without its end.
    Line(Vec<u8>),
    /// A line is longer than [`LINE_MAX`]; it was skipped.
    TooLong,
    /// There are no more.
    End,
}

impl Lines {
    fn new(read: OwnedReadHalf) -> Self {
        Self {
            read,
            buffer: BytesMut::new(),
            looked: 0,
            skipping: false,
            ended: false,
        }
    }

    async fn next(&mut self) -> std::io::Result<Taken> {
        loop {
            let unseen = &self.buffer[self.looked..];
            if let Some(at) = unseen.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.looked + at + 1);
                self.looked = 0;
                let long = std::mem::take(&mut self.skipping) || line.len() > LINE_MAX + 1;
                return Ok(if long {
                    Taken::TooLong
                } else {
                    Taken::Line(line[..line.len() - 1].to_vec())
                });
            }
            if self.buffer.len() > LINE_MAX {
                self.skipping = true;
                self.buffer.clear();
            }
            self.looked = self.buffer.len();
            if self.ended {
                return Ok(Taken::End);
            }
            if self.read.read_buf(&mut self.buffer).await? == 0 {
                self.ended = true;
                return Ok(self.last());
            }
        }
    }

    /// A last line may lack its end.
    fn last(&mut self) -> Taken {
        let line = std::mem::take(&mut self.buffer);
        self.looked = 0;
        match (std::mem::take(&mut self.skipping), line.is_empty()) {
            (true, _) => Taken::TooLong,
            (false, true) => Taken::End,
            (false, false) => Taken::Line(line.to_vec()),
        }
    }
}
