//! Memory that only starting, or a new configuration, needed goes back to the system.
//!
//! Reading the bootstrap and a control plane's resources takes many times the memory of what is
//! kept of them, and touches code and data of the program that nothing touches again. The
//! allocator keeps the one and the kernel the other, and both count as the sidecar's.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;

/// Starting ends, and the first configuration comes, well within this time.
const FIRST: Duration = Duration::from_secs(1);
/// What is still under way when something large is over, such as acknowledgements, ends within this.
const SOON: Duration = Duration::from_millis(100);
/// The least time between later passes: under a churn of configuration one pass serves many
/// changes.
const BETWEEN: Duration = Duration::from_secs(30);

/// Gives back what was freed, some time after something large was worked on.
#[derive(Debug)]
pub(crate) struct GiveBack {
    wait: Duration,
    due: Option<Instant>,
}

impl Default for GiveBack {
    fn default() -> Self {
        GiveBack {
            wait: FIRST,
            due: None,
        }
    }
}

impl GiveBack {
    /// Something large was worked on: a pass is due later.
    pub(crate) fn later(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + self.wait);
    }

    /// Something large is over: a pass as soon as the rest of it is, too.
    pub(crate) fn soon(&mut self) {
        self.due = Some(Instant::now() + SOON);
    }

    /// Resolves after a pass; never where none is due. It may be dropped and called again.
    pub(crate) async fn pass(&mut self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
        self.due = None;
        self.wait = BETWEEN;
        give_back();
    }
}

/// Does work by reflection, which needs much memory for a short time, in a thread of its own. The
/// allocator gives that thread memory apart from the rest, so that all of it is free afterwards and
/// nothing that is kept lies scattered in it.
///
/// # Errors
/// Those of the work, and where there is no thread.
pub(crate) fn apart<T: Clone + Send>(
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let work = || {
        let result = work();
        lateen_xds::json::release();
        trim();
        // The end of a thread's memory, which trimming leaves alone, goes when a piece before it is
        // freed that is this large and still is no mapping of its own.
        drop(std::hint::black_box(Vec::<u8>::with_capacity(96 * 1024)));
        result
    };
    let result = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("reflection".to_owned())
            .spawn_scoped(scope, work)
            .map_err(|source| Error::Io {
                what: "starting a thread".to_owned(),
                source,
            })?;
        let joined = thread.join();
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    // The copy is memory of this thread.
    let copy = result.clone();
    drop(result);
    trim();
    Ok(copy)
}

/// Gives back what was freed, and what of the program's file is mapped but was needed only once.
pub(crate) fn give_back() {
    lateen_xds::json::release();
    trim();
    unmap_file_pages();
}

#[cfg(target_env = "gnu")]
#[allow(
    unsafe_code,
    reason = "the C library's allocator has no safe interface"
)]
fn trim() {
    // SAFETY: it takes the allocator's own locks, and touches only memory that is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}

/// Drops the mappings of read-only file pages of this program and its libraries. They are in the
/// page cache all the same, and what is used comes back with a minor fault for sixteen pages.
#[allow(
    unsafe_code,
    reason = "the mappings of a program have no safe interface"
)]
fn unmap_file_pages() {
    unsafe extern "C" fn visit(
        info: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        _data: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: the loader passes a valid description, whose name and headers live as long as the
        // object, and no object goes while it walks the list.
        let (name, base, headers) = unsafe {
            let info = &*info;
            let n_headers = usize::from(info.dlpi_phnum);
            (
                std::ffi::CStr::from_ptr(info.dlpi_name).to_bytes(),
                info.dlpi_addr as usize,
                std::slice::from_raw_parts(info.dlpi_phdr, n_headers),
            )
        };
        // The program has no name here; what is no file, such as the vDSO, has no path.
        if !name.is_empty() && !name.contains(&b'/') {
            return 0;
        }
        // SAFETY: a positive number of a name that the system knows.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
        for header in headers {
            // Segments that are ever written hold relocated pointers, which the file has not; that
            // is why only those that never were are dropped.
            if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
                continue;
            }
            let start = (base + header.p_vaddr as usize).next_multiple_of(page);
            let end = (base + header.p_vaddr as usize + header.p_memsz as usize) & !(page - 1);
            if start < end {
                // SAFETY: whole pages of one private mapping of a file, which was never writable:
                // the next access reads the same bytes from the file again.
                unsafe {
                    libc::madvise(start as *mut _, end - start, libc::MADV_DONTNEED);
                }
            }
        }
        0
    }
    // SAFETY: the callback keeps nothing of what it is given, and does not unwind.
    unsafe {
        libc::dl_iterate_phdr(Some(visit), std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str) -> u64 {
        let text = std::fs::read_to_string("/proc/self/smaps_rollup").expect("a Linux kernel");
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_whitespace().nth(1));
        value.expect("a field").parse().expect("a number")
    }

    /// Set in a process of this program that runs one test alone.
    const ALONE: &str = "LATEEN_TEST_ALONE";

    /// Runs a test again in a process of its own, as others take and give memory too; true in that.
    fn is_alone(test: &str) -> bool {
        if std::env::var_os(ALONE).is_some() {
            return true;
        }
        let program = std::env::current_exe().expect("a running program");
        let alone = std::process::Command::new(program)
            .args([
                &format!("memory::tests::{test}"),
                "--exact",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(ALONE, "1")
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&alone.stdout);
        assert!(
            alone.status.success() && text.contains("1 passed"),
            "{text}"
        );
        false
    }

    #[test]
    fn what_reflection_took_is_given_back() {
        if !is_alone("what_reflection_took_is_given_back") {
            return;
        }
        assert!(lateen_xds::json::knows("envoy.config.cluster.v3.Cluster"));
        let before = (field("Anonymous:"), field("Rss:"));
        give_back();
        let after = (field("Anonymous:"), field("Rss:"));
        // The descriptors alone are some eleven megabytes.
        assert!(after.0 + 8 * 1024 < before.0, "{before:?} {after:?}");
        assert!(after.1 + 8 * 1024 < before.1, "{before:?} {after:?}");
    }

    #[test]
    fn what_is_kept_does_not_hold_what_reflection_took() {
        if !is_alone("what_is_kept_does_not_hold_what_reflection_took") {
            return;
        }
        let before = field("Anonymous:");
        let text = r#"{"node": {"id": "a"}}"#;
        let kept = apart(|| crate::bootstrap::parse(text)).expect("a bootstrap");
        give_back();
        let after = field("Anonymous:");
        assert_eq!(kept.node.id, "a");
        assert!(after < before + 512, "{before} {after}");
    }

    #[tokio::test]
    async fn one_pass_serves_many_changes() {
        let mut memory = GiveBack {
            wait: Duration::ZERO,
            due: None,
        };
        memory.later();
        let due = memory.due;
        memory.later();
        assert_eq!(memory.due, due);
        memory.pass().await;
        assert_eq!((memory.due, memory.wait), (None, BETWEEN));
        memory.later();
        assert!(memory.due > due.map(|due| due + BETWEEN / 2));
    }
}
