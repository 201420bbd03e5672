//! The secrets of a webhook, read when they are used: one that is replaced on the platform counts without a deploy.

use dunlin_events::secrets::{SecretError, SecretName, SecretValue, Secrets};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a value is used before it is read again. Reading is a system call or two, which a flood of calls shall not set
/// off each time.
const KEPT: Duration = Duration::from_secs(1);

pub(super) struct Keys {
    names: Arc<[SecretName]>,
    kept: Mutex<Option<(Instant, Kept)>>,
}

/// Those that can be had. Not one is an error.
type Kept = Result<Arc<[SecretValue]>, SecretError>;

impl Keys {
    pub(super) fn new(names: &[SecretName]) -> Self {
        Self { names: names.into(), kept: Mutex::default() }
    }

    pub(super) fn names(&self) -> &[SecretName] {
        &self.names
    }

    /// Their values, as they were a moment ago.
    pub(super) async fn values(&self, secrets: &Arc<dyn Secrets>) -> Kept {
        if let Some((read, values)) = &*self.kept.lock().unwrap_or_else(PoisonError::into_inner)
            && read.elapsed() < KEPT
        {
            return values.clone();
        }
        let (names, secrets) = (Arc::clone(&self.names), Arc::clone(secrets));
        // A file may be on a disk that is slow just now.
        let read = tokio::task::spawn_blocking(move || read(&names, &*secrets)).await;
        let values = read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), values.clone()));
        values
    }
}

fn read(names: &[SecretName], secrets: &dyn Secrets) -> Kept {
    let (mut values, mut failed) = (Vec::new(), None);
    for name in names {
        match secrets.get(name) {
            // An empty key is one that everybody has.
            Ok(value) if value.expose().is_empty() => {
                failed = Some(SecretError::Unreadable { name: name.clone(), reason: "it is empty".into() });
            }
            Ok(value) => values.push(value),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        // One of several may be gone: those that are left do.
        Some(error) if values.is_empty() => Err(error),
        _ => Ok(values.into()),
    }
}
