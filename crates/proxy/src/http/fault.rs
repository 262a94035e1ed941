//! Injection of faults.

use std::sync::atomic::{AtomicU32, Ordering};

use lateen_core::Reason;
use lateen_http::RequestHead;

use super::reply::LocalReply;
use super::view::HeadView;
use lateen_decode::{AbortStatus, Fault};

/// Faults under way in this process.
static ACTIVE: AtomicU32 = AtomicU32::new(0);

struct Active;

impl Drop for Active {
    fn drop(&mut self) {
        ACTIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Delays a request and then, perhaps, refuses it. What was done is added to `reasons`.
pub(crate) async fn inject(
    fault: &Fault,
    head: &RequestHead,
    cluster: Option<&str>,
    reasons: &mut Vec<Reason>,
) -> Result<(), LocalReply> {
    if !fault
        .headers
        .iter()
        .all(|test| test.matches(&HeadView::new(head)))
    {
        return Ok(());
    }
    if !fault.upstream_cluster.is_empty() && cluster != Some(&fault.upstream_cluster) {
        return Ok(());
    }
    let before = ACTIVE.fetch_add(1, Ordering::Relaxed);
    let _active = Active;
    if fault.max_active.is_some_and(|max| before >= max) {
        return Ok(());
    }
    if let Some((share, delay)) = fault.delay
        && share.hits(fastrand::u64(..))
    {
        reasons.push(Reason::DelayInjected);
        tokio::time::sleep(delay).await;
    }
    if let Some(abort) = &fault.abort
        && abort.share.hits(fastrand::u64(..))
    {
        return Err(match abort.status {
            AbortStatus::Http(status) => LocalReply::new(
                Reason::FaultInjected,
                "fault_filter_abort",
                "fault filter abort",
            )
            .with_status(status),
            AbortStatus::Grpc(status) => LocalReply::new(
                Reason::FaultInjected,
                "fault_filter_abort",
                "fault filter abort",
            )
            .with_grpc(status),
        });
    }
    Ok(())
}
