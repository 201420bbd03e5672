//! Retention: what a topic keeps no longer is trimmed, in the background, and so are the answers of requests.

use super::requests;
use crate::backend::Backend;
use dunlin_events::{topics::LogError, units::now_millis};
use std::time::Duration;
use tokio::{sync::Notify, time::timeout};

/// How often topics with a limit are looked at.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often it is looked whether there are some again. Whoever sets a limit tells of it: an idle platform has next to
/// nothing to do.
const NONE: Duration = Duration::from_secs(600);

/// Trims, for ever. `set` is told when a topic's limits were set.
pub(super) async fn run(backend: Backend, set: &Notify) {
    let mut rest = INTERVAL;
    loop {
        let _ = timeout(rest, set.notified()).await;
        rest = match trim(&backend).await {
            Ok(true) => INTERVAL,
            Ok(false) => NONE,
            Err(error) => {
                tracing::warn!(%error, "topics can't be trimmed now");
                INTERVAL
            }
        };
        if let Err(error) = requests::tidy(&backend, now_millis()).await {
            tracing::warn!(%error, "answers that were kept for long enough can't be dropped now");
        }
    }
}

/// Answers whether any topic has a limit.
async fn trim(backend: &Backend) -> Result<bool, LogError> {
    let retained = backend.log.retained().await?;
    for topic in &retained {
        let expired = backend.log.expired(&topic.name).await?;
        if expired > topic.first {
            let first = backend.log.trim(&topic.name, expired, false).await?;
            if first < expired {
                tracing::debug!(topic = %topic.name, first, expired, "a consumer has yet to settle what the topic keeps no longer");
            }
        }
    }
    Ok(!retained.is_empty())
}
