//! Retention: what a topic keeps no longer is trimmed, in the background, and so are the answers of requests.

use super::requests;
use crate::backend::Backend;
use dunlin_events::{topics::LogError, units::now_millis};
use std::time::Duration;

/// How often topics are looked at.
const INTERVAL: Duration = Duration::from_secs(10);

/// Trims, for ever.
pub(super) async fn run(backend: Backend) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if let Err(error) = trim(&backend).await {
            tracing::warn!(%error, "topics can't be trimmed now");
        }
        if let Err(error) = requests::tidy(&backend, now_millis()).await {
            tracing::warn!(%error, "answers that were kept for long enough can't be dropped now");
        }
    }
}

async fn trim(backend: &Backend) -> Result<(), LogError> {
    for topic in backend.log.retained().await? {
        let expired = backend.log.expired(&topic.name).await?;
        if expired > topic.first {
            let first = backend.log.trim(&topic.name, expired, false).await?;
            if first < expired {
                tracing::debug!(topic = %topic.name, first, expired, "a consumer has yet to settle what the topic keeps no longer");
            }
        }
    }
    Ok(())
}
