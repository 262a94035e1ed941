//! Memory that only starting, or a new configuration, needed goes back to the system.
//!
//! Reading the bootstrap and a control plane's resources takes many times the memory of what is
//! kept of them, and touches code and data of the program that nothing touches again. The
//! allocator keeps the one and the kernel the other, and both count as the sidecar's.

use std::time::Duration;

use tokio::time::Instant;

/// Starting ends, and the first configuration comes, well within this time.
const FIRST: Duration = Duration::from_secs(1);
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

    /// Starting is over: a pass now, and one for what it still had under way.
    pub(crate) fn now(&mut self) {
        give_back();
        self.due = Some(Instant::now() + self.wait);
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

    #[test]
    fn what_reflection_took_is_given_back() {
        // Other tests take and give memory too, so this one measures a process of its own.
        if std::env::var_os(ALONE).is_none() {
            let name = "memory::tests::what_reflection_took_is_given_back";
            let program = std::env::current_exe().expect("a running program");
            let alone = std::process::Command::new(program)
                .args([name, "--exact", "--nocapture"])
                .env(ALONE, "1")
                .output()
                .expect("it runs");
            let text = String::from_utf8_lossy(&alone.stdout);
            assert!(
                alone.status.success() && text.contains("1 passed"),
                "{text}"
            );
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
