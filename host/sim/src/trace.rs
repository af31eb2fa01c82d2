//! What happened, in order: as a running hash over everything, as text on demand, and the last
//! notable lines for the report of a failure.
//!
//! Two runs of one seed are equal if their hashes are: the hash takes in the time of every input,
//! every byte of every datagram delivered and every event. `CONSORT_TRACE=FILE` appends the text
//! to a file while the run goes on.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};

use consort_proto::Time;

use crate::seed::mix;

const NOTABLE_MAX: usize = 60;
const TEXT_MAX: usize = 64 << 20;

#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    notable: VecDeque<String>,
    text: Option<String>,
    file: Option<BufWriter<File>>,
}

impl Trace {
    /// Keeps the text if `keep_text`; writes it to `CONSORT_TRACE` if that is set.
    pub(crate) fn new(keep_text: bool) -> Self {
        let file = std::env::var_os("CONSORT_TRACE").map(|path| {
            let file = File::options().create(true).append(true).open(&path);
            BufWriter::new(file.unwrap_or_else(|error| panic!("CONSORT_TRACE={path:?}: {error}")))
        });
        let text = keep_text.then(String::new);
        Self {
            hash: 0,
            notable: VecDeque::new(),
            text,
            file,
        }
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Whether anyone reads the lines that are not notable.
    pub(crate) const fn wants_text(&self) -> bool {
        self.text.is_some() || self.file.is_some()
    }

    /// The last notable lines.
    pub(crate) fn notable(&self) -> impl Iterator<Item = &str> {
        self.notable.iter().map(String::as_str)
    }

    /// A datagram reaches a node.
    pub(crate) fn datagram(
        &mut self,
        now: Time,
        from: impl FnOnce() -> String,
        to: usize,
        payload: &[u8],
    ) {
        self.absorb(now.as_micros() ^ (to as u64) << 56);
        self.absorb_bytes(payload);
        if self.wants_text() {
            let (digest, from) = (self.hash, from());
            self.write(&format!(
                "{now} n{to} <- {from} {} B {digest:016x}",
                payload.len()
            ));
        }
    }

    /// A node is woken for a reason.
    pub(crate) fn wake(&mut self, now: Time, node: usize, reason: &str) {
        self.absorb(now.as_micros() ^ (node as u64) << 56);
        self.absorb_bytes(reason.as_bytes());
        if self.wants_text() {
            self.write(&format!("{now} n{node} wakes: {reason}"));
        }
    }

    /// Something else that is worth a line, but not worth keeping for a report.
    pub(crate) fn detail(&mut self, now: Time, node: usize, line: &str) {
        self.absorb(now.as_micros() ^ (node as u64) << 56);
        self.absorb_bytes(line.as_bytes());
        if self.wants_text() {
            self.write(&format!("{now} n{node} {line}"));
        }
    }

    /// Something that a reader of a failure needs.
    pub(crate) fn note(&mut self, now: Time, line: &str) {
        self.absorb(now.as_micros());
        self.absorb_bytes(line.as_bytes());
        let line = format!("{now} {line}");
        self.write(&line);
        if self.notable.len() == NOTABLE_MAX {
            self.notable.pop_front();
        }
        self.notable.push_back(line);
    }

    /// A line that is no part of the hash.
    pub(crate) fn comment(&mut self, line: &str) {
        self.write(line);
    }

    fn write(&mut self, line: &str) {
        if let Some(text) = &mut self.text
            && text.len() < TEXT_MAX
        {
            text.push_str(line);
            text.push('\n');
        }
        if let Some(file) = &mut self.file {
            writeln!(file, "{line}").expect("the trace file can be written");
        }
    }

    const fn absorb(&mut self, word: u64) {
        self.hash = mix(self.hash ^ word);
    }

    fn absorb_bytes(&mut self, bytes: &[u8]) {
        self.absorb(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.absorb(u64::from_le_bytes(word));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_time_and_bytes_change_the_hash() {
        let run = |inputs: &[(u64, usize, &[u8])]| {
            let mut trace = Trace::new(false);
            for (at, to, payload) in inputs {
                trace.datagram(Time::from_micros(*at), || "n0".to_owned(), *to, payload);
            }
            trace.hash()
        };
        let base = run(&[(1, 0, b"a"), (2, 1, b"b")]);
        assert_eq!(base, run(&[(1, 0, b"a"), (2, 1, b"b")]));
        assert_ne!(base, run(&[(2, 1, b"b"), (1, 0, b"a")]));
        assert_ne!(base, run(&[(1, 0, b"a"), (3, 1, b"b")]));
        assert_ne!(base, run(&[(1, 0, b"a"), (2, 2, b"b")]));
        assert_ne!(base, run(&[(1, 0, b"a"), (2, 1, b"c")]));
    }

    #[test]
    fn the_last_notable_lines_are_kept() {
        let mut trace = Trace::new(true);
        for i in 0..100 {
            trace.note(Time::from_micros(i), &format!("line {i}"));
        }
        assert_eq!(trace.notable().count(), NOTABLE_MAX);
        assert_eq!(trace.notable().last(), Some("0.000099 line 99"));
        assert_eq!(trace.text().map(|text| text.lines().count()), Some(100));
    }
}
