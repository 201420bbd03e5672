//! Which moments the times of a wall clock are, in a zone that sets its clocks forward and back.
//!
//! ```text
//!   forward   01:59 │ 03:00          back   02:59 │ 02:00 … 02:59 │ 03:00
//!             02:30 is skipped              02:30 comes twice: the first counts
//! ```
//!
//! A schedule that runs every hour has a rhythm, and keeps it: it goes by time as it passes, so nothing is made up for
//! and nothing left out. Any other names times of a day, each of which is to come once: times that were skipped come
//! together at the moment of the change, and of a time that comes twice the first is taken. Moments are seconds since the
//! Unix epoch; *local* seconds are what a clock on the wall has shown since 1970-01-01T00:00:00 on it.

use jiff::{Timestamp, tz::TimeZone};

/// Finds the first time on a clock after this one, both in local seconds.
pub(super) type Next<'a> = &'a dyn Fn(i64) -> Option<i64>;

/// The first moment after this one at which a clock in the zone shows one of the times. `rhythm` says that they are those
/// of a schedule that runs every hour.
pub(super) fn next(zone: &TimeZone, times: Next<'_>, rhythm: bool, after: i64) -> Option<i64> {
    let mut offset = offset(zone, after)?;
    let mut local = after + offset;
    if !rhythm && let Some(repeated) = repeated_until(zone, after, offset) {
        local = local.max(repeated - 1);
    }
    let mut from = after;
    loop {
        let found = times(local)? - offset;
        let Some((change, changed)) = change_after(zone, from).filter(|(change, _)| found >= *change) else {
            return Some(found);
        };
        if changed > offset {
            if is_lost(times, rhythm, change + offset, change + changed) {
                return Some(change);
            }
            local = change + changed - 1;
        } else {
            local = change + if rhythm { changed } else { offset } - 1;
        }
        (from, offset) = (change, changed);
    }
}

/// The moment at which a clock in the zone shows this time. One that is skipped is that of the change.
pub(super) fn moment(zone: &TimeZone, local: i64) -> Option<i64> {
    // No zone is further from UTC than this.
    const FURTHEST: i64 = 2 * 86_400;
    next(zone, &|after| (after < local).then_some(local), false, local - FURTHEST)
}

/// Whether one of the times between these two, which no clock shows, would not come.
fn is_lost(times: Next<'_>, rhythm: bool, mut first: i64, end: i64) -> bool {
    let skipped = end - first;
    while let Some(time) = times(first - 1).filter(|time| *time < end) {
        // In a rhythm it isn't lost if it runs at that very moment, which is called otherwise now: a quarter past two is
        // a quarter past three. That is so unless clocks move by less than an hour, as on Lord Howe Island.
        if !rhythm || times(time + skipped - 1) != Some(time + skipped) {
            return true;
        }
        first = time + 1;
    }
    false
}

/// Until when on the clock times come for the second time, if the clock was set back before this moment.
fn repeated_until(zone: &TimeZone, moment: i64, now: i64) -> Option<i64> {
    let change = zone.preceding(Timestamp::from_second(moment + 1).ok()?).next()?.timestamp().as_second();
    let before = offset(zone, change - 1)?;
    (before > now).then_some(change + before)
}

/// The next moment at which the zone's clocks change, and how far they are ahead of UTC from then on.
fn change_after(zone: &TimeZone, moment: i64) -> Option<(i64, i64)> {
    let change = zone.following(Timestamp::from_second(moment).ok()?).next()?;
    Some((change.timestamp().as_second(), change.offset().seconds().into()))
}

fn offset(zone: &TimeZone, moment: i64) -> Option<i64> {
    Some(zone.to_offset(Timestamp::from_second(moment).ok()?).seconds().into())
}
