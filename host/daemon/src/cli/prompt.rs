//! A line typed at a terminal without being shown.
//!
//! The terminal hands over byte by byte and raises no signals meanwhile, so that Ctrl-C too comes
//! through here and the terminal is always left as it was found.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

const LINE_BYTES_MAX: usize = 4096;
const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const BACKSPACE: [u8; 2] = [0x08, 0x7f];
const CTRL_U: u8 = 0x15;

/// Asks on standard error and reads one line from standard input, a terminal.
///
/// # Errors
/// The terminal refuses, or the person gives up with Ctrl-C (`Interrupted`).
pub(super) fn hidden(question: &str) -> io::Result<Zeroizing<String>> {
    let mut asked = io::stderr().lock();
    write!(asked, "{question}").and_then(|()| asked.flush())?;
    let line = {
        let _quiet = Quiet::new()?;
        read_line(&mut io::stdin().lock())
    };
    writeln!(asked)?;
    line
}

/// The terminal's own settings, put back when this is dropped.
struct Quiet(Termios);

impl Quiet {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin().as_fd())?;
        let mut quiet = before.clone();
        quiet
            .local_flags
            .remove(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
        tcsetattr(io::stdin().as_fd(), SetArg::TCSADRAIN, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that is gone needs no putting back.
        let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSADRAIN, &self.0);
    }
}

fn read_line(input: &mut impl io::BufRead) -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX));
    for byte in input.bytes() {
        match byte? {
            b'\n' | b'\r' | CTRL_D => break,
            CTRL_C => return Err(io::Error::new(io::ErrorKind::Interrupted, "given up")),
            CTRL_U => line.clear(),
            byte if BACKSPACE.contains(&byte) => {
                line.pop();
            }
            byte if line.len() < LINE_BYTES_MAX => line.push(byte),
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the line is too long",
                ));
            }
        }
    }
    Ok(Zeroizing::new(String::from_utf8_lossy(&line).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> io::Result<String> {
        read_line(&mut &*bytes).map(|line| line.to_string())
    }

    #[test]
    fn a_line_is_edited_as_at_a_terminal() {
        assert_eq!(read(b"abc\nrest").expect("a line"), "abc");
        assert_eq!(read(b"abx\x7fc\r").expect("a line"), "abc");
        assert_eq!(read(b"wrong\x15abc\x04").expect("a line"), "abc");
        assert_eq!(read(b"\x7fabc").expect("a line"), "abc");
        let given_up = read(b"ab\x03c\n").expect_err("given up");
        assert_eq!(given_up.kind(), io::ErrorKind::Interrupted);
        read(&[b'a'; LINE_BYTES_MAX + 1]).expect_err("too long");
    }
}
