//! Announces releases: what GitHub tells in its own words becomes an event in ours, and the newest release of each
//! repository is kept.
//!
//! The platform has checked that it was GitHub who called, and keeps each of its deliveries once. So a release is announced
//! once, however often GitHub sends it.

use dunlin::{Event, Result, log::info, state};
use serde::{Deserialize, Serialize};

/// What is read of GitHub's `release` event, which has much more.
#[derive(Deserialize)]
struct Told {
    release: Release,
    repository: Repository,
}

#[derive(Deserialize)]
struct Release {
    tag_name: String,
    html_url: String,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
}

#[derive(Serialize, Deserialize)]
struct Announcement {
    repository: String,
    version: String,
    page: String,
}

#[dunlin::handler]
fn announce(event: Event<Told>) -> Result<Event<Announcement>> {
    let Told { release, repository } = event.data;
    let repository = repository.full_name;
    info!(repository, version = release.tag_name, "released");
    state::bucket().set(&repository, &release.tag_name)?;
    let announcement =
        Announcement { repository: repository.clone(), version: release.tag_name, page: release.html_url };
    Ok(Event::new("release.published", announcement).with_subject(&repository).with_key(&repository))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin::testing;
    use serde_json::json;

    #[test]
    fn a_release_is_announced_and_kept() {
        let told = json!({
            "action": "published",
            "release": { "tag_name": "v1.2.0", "html_url": "https://github.com/ada/engine/releases/tag/v1.2.0" },
            "repository": { "full_name": "ada/engine", "private": false },
        });
        let announced: Event<Announcement> =
            testing::deliver(announce, testing::event("github.release", told)).unwrap().remove(0).into_event().unwrap();
        assert_eq!((announced.kind(), announced.key()), ("release.published", Some("ada/engine")));
        assert_eq!(announced.data.version, "v1.2.0");
        assert_eq!(testing::state()["ada/engine"], "v1.2.0");
    }
}
