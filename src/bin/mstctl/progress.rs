//! How far something is that takes long: on standard error, and only if that is a
//! terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A line that shows how far something is, until this is dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Of something that begins now.
    pub(crate) fn new(what: &'static str) -> Self {
        let bar = ProgressBar::no_length().with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {human_pos}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// So many are done; of so many, if that is known.
    pub(crate) fn set(&self, done: u64, of: Option<u64>) {
        if let (Some(of), None) = (of, self.0.length()) {
            let template = "{spinner} {msg} {wide_bar} {human_pos} of {human_len}, {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                self.0.set_style(style);
            }
            self.0.set_length(of);
        }
        self.0.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
