//! The memory of lists that are not used any more.

use std::cell::RefCell;

use super::Headers;

thread_local! {
    /// Lists that are not used any more, with their memory. Each message needs two pieces that are
    /// too large for what allocators are quick at.
    static SPARES: RefCell<Vec<Headers>> = const { RefCell::new(Vec::new()) };
}

/// How many lists a thread keeps, and what one of them may have room for.
const SPARE_LISTS: usize = 256;
const SPARE_BYTES: usize = 4 * 1024;
const SPARE_FIELDS: usize = 64;

/// An empty list with the memory of a former one, where there is one.
pub(super) fn take() -> Headers {
    let spare = SPARES.try_with(|spares| spares.borrow_mut().pop());
    spare.ok().flatten().unwrap_or_default()
}

impl Drop for Headers {
    fn drop(&mut self) {
        let fits = self.block.capacity() <= SPARE_BYTES && self.fields.capacity() <= SPARE_FIELDS;
        if self.block.capacity() == 0 || !fits {
            return;
        }
        // Not `with`: the thread may be ending, and its variables with it.
        let _ = SPARES.try_with(|spares| {
            let mut spares = spares.borrow_mut();
            if spares.len() < SPARE_LISTS {
                self.block.clear();
                self.fields.clear();
                spares.push(Headers {
                    block: std::mem::take(&mut self.block),
                    fields: std::mem::take(&mut self.fields),
                    seen: 0,
                });
            }
        });
    }
}
