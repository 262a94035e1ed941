//! Upgrades: WebSocket and whatever else a listener allows.

use std::time::Duration;

use lateen_http::{RequestHead, Response, Upgrade};
use lateen_route::Forward;

use super::Hcm;
use super::reply::LocalReply;
use crate::network::copy;

/// True where the request is to leave HTTP and may.
pub(crate) fn wanted(hcm: &Hcm, action: &Forward, head: &RequestHead) -> Result<bool, LocalReply> {
    let Some(kind) = head.upgrade_type().map(str::to_ascii_lowercase) else {
        return Ok(false);
    };
    // A client that offers HTTP/2 this way is served in HTTP/1.1.
    if kind == "h2c" {
        return Ok(false);
    }
    let by_route = action.upgrades.iter().find(|(name, _)| *name == kind);
    let allowed = by_route.map_or_else(
        || hcm.spec.upgrades.contains(&kind),
        |(_, allowed)| *allowed,
    );
    if !allowed {
        return Err(LocalReply::plain(403, "upgrade_failed", ""));
    }
    Ok(true)
}

/// Joins the two raw streams once the response is out.
pub(crate) fn relay(downstream: Upgrade, response: &mut Response, idle: Duration) {
    let Some(upstream) = response.upgrade.take() else {
        return;
    };
    tokio::spawn(async move {
        let (Ok(mut down), Ok(mut up)) = tokio::join!(downstream.stream(), upstream.stream())
        else {
            tracing::debug!("an upgraded stream did not come about");
            return;
        };
        let (_, result) = copy(&mut down, &mut up, idle, |_, _| {}).await;
        if let Err(error) = result {
            tracing::debug!(%error, "upgraded stream ended");
        }
    });
}
