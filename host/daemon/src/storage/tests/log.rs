//! What is logged while a test does something.

use std::io;
use std::sync::{Arc, Mutex, Once};

/// What is logged on this thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(super) fn during<T>(&self, what: impl FnOnce() -> T) -> T {
        // Else a line that another test's thread comes by first, while nobody listens, may be taken
        // for one that nobody wants.
        static LISTENER: Once = Once::new();
        LISTENER.call_once(|| {
            let silent = tracing_subscriber::fmt().with_writer(io::sink).finish();
            // Another test may have set one; then somebody listens all the same.
            let _ = tracing::subscriber::set_global_default(silent);
        });
        tracing::callsite::rebuild_interest_cache();
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, what)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no writer panics")).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .expect("no writer panics")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
