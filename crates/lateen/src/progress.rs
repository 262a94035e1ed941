//! Progress of long work: a spinner on a terminal, one line a step elsewhere.

use std::{io::IsTerminal, time::Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A list of steps that are shown as they are done. It goes to standard error,
/// so that standard output holds only the result.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    step: String,
    since: Instant,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(std::time::Duration::from_millis(100));
            bar
        });
        Progress {
            bar,
            step: String::new(),
            since: Instant::now(),
        }
    }

    /// Ends the step before and begins the next.
    pub(crate) fn step(&mut self, name: impl Into<String>) {
        self.done();
        self.step = name.into();
        self.since = Instant::now();
        if let Some(bar) = &self.bar {
            bar.set_message(self.step.clone());
        }
    }

    /// Says what the present step waits for.
    pub(crate) fn detail(&self, detail: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{} ({detail})", self.step));
        }
    }

    /// Ends the present step.
    pub(crate) fn done(&mut self) {
        if self.step.is_empty() {
            return;
        }
        let line = format!(
            "✓ {} ({:.1} s)",
            self.step,
            self.since.elapsed().as_secs_f64()
        );
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
        self.step.clear();
    }

    /// Ends the last step and takes the spinner away.
    pub(crate) fn finish(mut self) {
        self.done();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
