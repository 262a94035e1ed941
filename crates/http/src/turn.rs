//! Writes that wait for the end of the loop turn.
//!
//! A worker that reads a request here and a response there, and writes each on as soon as it can,
//! wakes its peers for each: they do their little work while it does its own, and sleep again.
//! Waking somebody who sleeps is among the dearest things that a forwarder does. So small complete
//! messages are held back until every task that was ready has run, and leave one behind the other:
//! the first finds its reader asleep, the others mostly find theirs at work.
//!
//! The end of the turn is a task, which queues behind those that are ready. Where no such task runs
//! on a thread, nothing is held back.

use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// A connection that has held something back.
pub(crate) trait Late: Send + Sync {
    /// Writes it. Whoever waits for the connection is woken where that fails or must go on later.
    fn flush_late(&self);
}

/// What a connection holds back.
#[derive(Default)]
pub(crate) struct Held {
    pub bytes: Vec<u8>,
    /// Whom to wake where it cannot leave as a whole.
    pub waker: Option<Waker>,
}

/// How many are kept for the next turn, and what one of them may have room for.
const SPARES: usize = 64;
const SPARE_BYTES: usize = 8 * 1024;

#[derive(Default)]
struct Turn {
    waiting: Vec<Arc<dyn Late>>,
    /// Boxed, since connections own them by turns.
    #[expect(clippy::vec_box, reason = "boxes go from here to connections and back")]
    spares: Vec<Box<Held>>,
    /// Wakes the task; none where there is none.
    waker: Option<Waker>,
}

thread_local! {
    static TURN: RefCell<Turn> = RefCell::default();
}

/// True where something on this thread looks after what is held back.
pub(crate) fn has_end() -> bool {
    TURN.with_borrow(|turn| turn.waker.is_some())
}

/// Has a connection flushed at the end of the turn.
pub(crate) fn wait(connection: Arc<dyn Late>) {
    TURN.with_borrow_mut(|turn| {
        if turn.waiting.is_empty()
            && let Some(waker) = &turn.waker
        {
            waker.wake_by_ref();
        }
        turn.waiting.push(connection);
    });
}

/// Room to hold something back in.
pub(crate) fn held() -> Box<Held> {
    TURN.with_borrow_mut(|turn| turn.spares.pop().unwrap_or_default())
}

/// Takes the room back.
pub(crate) fn recycle(mut held: Box<Held>) {
    held.bytes.clear();
    held.waker = None;
    TURN.with_borrow_mut(|turn| {
        if turn.spares.len() < SPARES && held.bytes.capacity() <= SPARE_BYTES {
            turn.spares.push(held);
        }
    });
}

/// Flushes what connections of this thread hold back, at the end of each loop turn. For a runtime
/// of one thread, on which it is spawned once and never ends.
pub async fn flush_turns() {
    let _end = End;
    let mut waiting = Vec::new();
    // A turn may have more writes than a task may do without a pause for others, and all of them
    // were due before.
    tokio::task::coop::unconstrained(poll_fn(|cx| {
        TURN.with_borrow_mut(|turn| {
            if !turn.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                turn.waker = Some(cx.waker().clone());
            }
            std::mem::swap(&mut turn.waiting, &mut waiting);
        });
        for connection in waiting.drain(..) {
            connection.flush_late();
        }
        Poll::<()>::Pending
    }))
    .await;
}

/// From here on nothing is held back any more.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        // Not `with`: the thread may be ending, and its variables with it.
        let left = TURN.try_with(|turn| std::mem::take(&mut *turn.borrow_mut()));
        for connection in left.unwrap_or_default().waiting {
            connection.flush_late();
        }
    }
}
