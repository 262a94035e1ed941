//! Flow control (RFC 9113, section 5.2): what the peer may send, and when it may send more.

/// The size of every window before anything is said.
pub(super) const DEFAULT: u32 = 65_535;

/// The largest window.
pub(super) const LARGEST: i64 = i32::MAX as i64;

/// The receiving side of one window, of a stream or of the connection.
///
/// It follows need: an application that has taken everything, after the peer had used up most of the
/// window, was waiting for the peer and the peer for the window, which doubles. An application that
/// is the slower one never gets so far, since the peer fills the window again before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Receive {
    /// What the peer may still send. Below zero after we lowered the initial size.
    open: i64,
    /// What it was at least since the application had last taken everything.
    lowest: i64,
    /// How large the window is when all is given back.
    size: u32,
    /// What the application has not taken yet.
    untaken: u32,
    /// What was taken and not given back yet.
    owed: u32,
}

impl Receive {
    pub(super) fn new(size: u32) -> Self {
        Receive {
            open: i64::from(size),
            lowest: i64::from(size),
            size,
            untaken: 0,
            owed: 0,
        }
    }

    /// Takes `n` bytes from the window. False where the peer exceeded it.
    #[inline]
    pub(super) fn take(&mut self, n: u32) -> bool {
        if i64::from(n) > self.open {
            return false;
        }
        self.open -= i64::from(n);
        self.lowest = self.lowest.min(self.open);
        self.untaken += n;
        true
    }

    /// The application took `n` bytes. Returns how much to give back now: nothing below half of the
    /// window, so that updates are few, unless the window grows.
    #[inline]
    pub(super) fn release(&mut self, n: u32, max_size: u32) -> Option<u32> {
        let n = n.min(self.untaken);
        self.untaken -= n;
        self.owed += n;
        let mut growth = 0;
        if self.untaken == 0 && n > 0 {
            let used_up = self.lowest < i64::from(self.size / 4);
            if used_up && self.size < max_size {
                growth = self.size.min(max_size - self.size);
                self.size += growth;
            }
            self.lowest = self.open;
        }
        if growth == 0 && self.owed < self.size.div_ceil(2) {
            return None;
        }
        let increment = self.owed + growth;
        self.owed = 0;
        self.open += i64::from(increment);
        if self.untaken == 0 {
            self.lowest = self.open;
        }
        Some(increment)
    }

    /// Our initial size changed by this much and the peer knows it.
    pub(super) fn shift(&mut self, by: i64) {
        self.open += by;
        self.lowest = self.lowest.min(self.open);
        self.size = u32::try_from(i64::from(self.size) + by).unwrap_or(0);
    }

    /// Opens the window to `size`; returns by how much.
    pub(super) fn widen(&mut self, size: u32) -> u32 {
        let increment = size.saturating_sub(self.size);
        self.size += increment;
        self.open += i64::from(increment);
        self.lowest = self.open;
        increment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_back_by_halves() {
        let mut window = Receive::new(100);
        assert!(window.take(60));
        assert_eq!(window.release(49, 100), None);
        assert_eq!(window.release(1, 100), Some(50));
        assert!(window.take(90));
        assert!(!window.take(1));
    }

    #[test]
    fn grows_only_for_an_application_that_keeps_up() {
        let mut window = Receive::new(100);
        assert!(window.take(100));
        assert_eq!(window.release(60, 1000), Some(60));
        assert!(window.take(60));
        assert_eq!(window.release(60, 1000), Some(60), "40 are never taken");
        assert_eq!(window.release(40, 150), Some(90), "grown by 50");
        assert!(window.take(150));
        assert_eq!(window.release(150, 150), Some(150), "no further");
        assert!(window.take(60));
        assert_eq!(window.release(60, 1000), None, "the peer had room");
    }

    #[test]
    fn nobody_gives_back_more_than_was_taken() {
        let mut window = Receive::new(100);
        assert!(window.take(10));
        assert_eq!(window.release(1000, 100), None);
        assert_eq!(window.release(1000, 100), None);
        assert!(window.take(90));
        assert!(!window.take(1));
    }
}
