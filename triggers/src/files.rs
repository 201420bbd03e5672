//! Files that are put into a folder, and objects that are put into a bucket.
//!
//! ```text
//!   hints ──▶ look ──▶ complete? ──▶ seen? ──▶ read, SHA-256 ──▶ one commit: events, what was seen
//!                │         └─ later ─┘                                   │
//!   inbox ◀──────┴────────────────── put away ◀── settled by the function┘
//! ```
//!
//! What is in the folder is compared with what is remembered of it, one file at a time: at the start, when the system has
//! told of too much, or where it tells nothing, all of them. A file is complete when the system says that it was closed or
//! moved here, or when it has stayed as it is for a while. Between two happenings nothing runs and nothing is kept in
//! memory but the files that are on their way.
//!
//! A bucket is a folder that is looked through again and again, and whose files are complete when they are there. All that
//! differs is behind [`Inbox`].

mod allowed;
mod away;
mod bucket;
mod check;
mod content;
mod event;
mod folder;
mod handed;
mod inbox;
mod memory;
mod name;
mod pending;
mod records;
mod s3;
#[cfg(test)]
mod tests;
mod watch;

pub use allowed::AllowedFolders;
pub(crate) use handed::Handed;
pub(crate) use s3::Wire;

use self::{
    away::{Leash, Place},
    bucket::Seen,
    content::Read,
    folder::{Found, Look},
    inbox::{Inbox, Walked},
    memory::{Entry, Keys, Progress, State},
    pending::Pending,
    records::Message,
    watch::Watch,
};
use bytes::Bytes;
use dunlin_events::{
    BoxFuture, Event,
    manifest::{FilesTrigger, Lines, Problem, Then},
    secrets::Secrets,
    source::{Intake, Report, Source, SourceError},
};
use futures_util::{StreamExt as _, stream};
use std::{
    collections::{HashMap, HashSet, hash_map},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// How often a folder is looked through where nothing tells of changes.
const POLL: Duration = Duration::from_secs(10);
/// How often a bucket is listed, which costs money at some.
const POLL_BUCKET: Duration = Duration::from_secs(30);
/// Files that are compared with what is remembered at once.
const CHUNK: usize = 512;
/// A commit takes no more events, data, or bytes that were read for it, once it has so many.
const COMMIT: (usize, usize, u64) = (256, 4 << 20, 64 << 20);
/// Files that are waited for until they are complete. More are found when the folder is looked through again.
const SETTLING: usize = 20_000;
/// Files that are named in the log as unreadable; more are counted.
const NAMED: usize = 100;

/// The source of one files trigger.
pub(crate) struct Files {
    trigger: FilesTrigger,
    allowed: AllowedFolders,
    secrets: Arc<dyn Secrets>,
    wire: Wire,
}

impl Files {
    pub(crate) fn new(trigger: &FilesTrigger, allowed: AllowedFolders, secrets: Arc<dyn Secrets>, wire: Wire) -> Self {
        Self { trigger: trigger.clone(), allowed, secrets, wire }
    }

    /// What of the trigger can't be.
    pub(crate) async fn check(&self) -> Vec<Problem> {
        if self.trigger.bucket.is_some() {
            return bucket::check(&self.trigger, &*self.secrets, self.wire.clone()).await;
        }
        check::check(&self.trigger, &self.allowed).await
    }
}

impl Source for Files {
    fn run<'a>(&'a self, intake: &'a dyn Intake) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let inbox = Inbox::open(&self.trigger, &self.allowed, &*self.secrets, &self.wire).await?;
            Box::pin(Work::begin(&self.trigger, inbox, intake).await?.run()).await
        })
    }
}

/// One run of the source.
struct Work<'a> {
    trigger: &'a FilesTrigger,
    intake: &'a dyn Intake,
    inbox: Inbox,
    keys: Keys,
    /// What tells of changes, where something does.
    watch: Option<Arc<Watch>>,
    /// How often the folder is looked through, where it is.
    poll: Option<Duration>,
    /// Files that may not be complete, and since when they are as they are.
    settling: HashMap<PathBuf, (Found, Instant)>,
    /// There were more than could be waited for.
    more: bool,
    /// The objects of a bucket that the last look came by.
    seen: Seen,
    pending: Pending,
    /// What is to be remembered with what is taken next, by its key.
    told: HashMap<String, Entry>,
    leash: Leash,
    /// Files that couldn't be read and were told of.
    unreadable: HashSet<PathBuf>,
}

/// A file that is to be taken, and what is remembered of it.
type Fresh = (Found, Option<Entry>);

impl<'a> Work<'a> {
    async fn begin(trigger: &'a FilesTrigger, inbox: Inbox, intake: &'a dyn Intake) -> Result<Self, SourceError> {
        let poll = match inbox.folder().cloned() {
            Some(folder) => blocking(move || Ok((!watch::tells(&folder.real)).then_some(POLL))).await?,
            None => Some(POLL_BUCKET),
        };
        let mut work = Self {
            trigger,
            intake,
            keys: Keys::new(trigger, intake),
            inbox,
            watch: None,
            poll: trigger.poll.or(poll),
            settling: HashMap::new(),
            more: false,
            seen: Seen::default(),
            pending: Pending::default(),
            told: HashMap::new(),
            leash: Leash::default(),
            unreadable: HashSet::new(),
        };
        if let (None, Some(folder)) = (work.poll, work.inbox.folder()) {
            match Watch::new(&folder.real, trigger.settle) {
                Ok(watch) => work.watch = Some(Arc::new(watch)),
                Err(error) => work.watch_failed(&error),
            }
        }
        Ok(work)
    }

    /// Goes on without being told of changes.
    fn watch_failed(&mut self, error: &notify::Error) {
        self.watch = None;
        self.poll = Some(POLL);
        let message = format!(
            "`{}` can't be watched and is looked through every {}: {error}; `fs.inotify.max_user_watches` says how many folders can",
            self.trigger.place(),
            humantime::format_duration(POLL),
        );
        self.intake.report(Report::Warning(message));
    }

    async fn run(mut self) -> Result<(), SourceError> {
        self.intake.report(Report::Running);
        let begun = self.intake.recall(vec![self.keys.begun()]).await?.remove(0).is_some();
        if !begun && !self.trigger.existing {
            self.pass_over().await?;
        }
        if !begun {
            self.intake.take(Vec::new(), vec![(self.keys.begun(), Some(Bytes::from_static(b"1")))]).await?;
        }
        let mut all = true;
        let mut next_look = None;
        loop {
            if all {
                self.look_through().await?;
                next_look = self.poll.map(|poll| Instant::now() + poll);
            }
            self.say();
            let due = self.due().into_iter().chain(next_look).min();
            tokio::select! {
                () = news(self.watch.as_deref()) => {}
                () = at(due) => {}
            }
            let hints = self.watch.as_deref().map(|watch| watch.hints.take()).unwrap_or_default();
            all = hints.all || next_look.is_some_and(|at| at <= Instant::now());
            if self.more && self.settling.is_empty() {
                all = true;
            }
            if !all {
                self.look_at(hints.at).await?;
            }
            self.settle().await?;
            self.put_away().await?;
        }
    }

    /// When there is something to do though nothing happens.
    fn due(&self) -> Option<Instant> {
        let settled = self.settling.values().map(|(_, since)| *since + self.trigger.settle).min();
        let made = self.watch.as_deref().and_then(|watch| watch.hints.due());
        settled.into_iter().chain(made).chain(self.pending.due()).min()
    }

    fn say(&self) {
        let how = match self.poll {
            Some(poll) => format!("looks every {}", humantime::format_duration(poll)),
            None => "is told of changes".to_owned(),
        };
        self.intake.report(Report::Detail("watching", how.into()));
        if self.trigger.then != Then::Keep {
            self.intake.report(Report::Detail("waiting_files", self.pending.len().into()));
        }
        if !self.unreadable.is_empty() {
            self.intake.report(Report::Detail("unreadable_files", self.unreadable.len().into()));
        }
    }

    /// Remembers what is there without making events of it.
    async fn pass_over(&mut self) -> Result<(), SourceError> {
        let mut walk = self.inbox.walk(PathBuf::new(), self.watch.clone(), CHUNK);
        while let Some(steps) = walk.recv().await {
            let mut seen = Vec::new();
            for step in steps {
                match step {
                    Walked::File(file) => {
                        let entry = Entry::new(&file, State::Seen).bytes();
                        seen.push((self.keys.of(&file.path), Some(entry)));
                    }
                    Walked::Unreadable(path, error) => self.cannot_read(path, &error),
                    Walked::Unwatched(error) => self.watch_failed(&error),
                    Walked::Failed(error) => return Err(error),
                }
            }
            self.intake.take(Vec::new(), seen).await?;
        }
        Ok(())
    }

    /// Compares all that is there with all that is remembered.
    async fn look_through(&mut self) -> Result<(), SourceError> {
        self.more = false;
        self.inbox.is_there().await?;
        self.unreadable.clear();
        self.seen.begin();
        self.look_into(PathBuf::new()).await?;
        self.look_back().await
    }

    /// Goes through a folder within, or the bucket, and takes what is new and complete.
    async fn look_into(&mut self, from: PathBuf) -> Result<(), SourceError> {
        let mut walk = self.inbox.walk(from, self.watch.clone(), CHUNK);
        while let Some(steps) = walk.recv().await {
            let mut files = Vec::new();
            for step in steps {
                match step {
                    Walked::File(file) => files.push(file),
                    Walked::Unreadable(path, error) => self.cannot_read(path, &error),
                    Walked::Unwatched(error) => self.watch_failed(&error),
                    Walked::Failed(error) => return Err(error),
                }
            }
            let bucket = self.inbox.folder().is_none();
            if bucket {
                files.iter().for_each(|file| self.seen.add(self.keys.name(&self.keys.of(&file.path))));
            }
            let mut complete = Vec::new();
            for fresh in self.fresh(files).await? {
                // The clock of another machine may say anything, so there a file is looked at twice.
                if bucket || (self.watch.is_some() && fresh.0.is_older_than(self.trigger.settle)) {
                    complete.push(fresh);
                } else {
                    self.wait_for(fresh.0);
                }
            }
            self.take(complete).await?;
        }
        Ok(())
    }

    /// Goes through what is remembered: what has gone is forgotten, and what waits for the function is known again.
    async fn look_back(&mut self) -> Result<(), SourceError> {
        let mut after: Option<String> = None;
        loop {
            let page = self.keys.page(self.intake, after.as_deref(), CHUNK).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            let mut look = Vec::new();
            for (key, entry) in page {
                match entry.as_ref().and_then(|entry| self.waits(entry)) {
                    Some(progress) => self.pending.add(self.keys.name(&key), progress),
                    None => look.push((key, entry.map(|entry| entry.path()))),
                }
            }
            let gone: Vec<_> = match self.inbox.folder().cloned() {
                Some(folder) => {
                    blocking(move || {
                        let gone = |path: &Option<PathBuf>| {
                            path.as_deref().is_none_or(|path| matches!(folder.stamp(path), Ok(None)))
                        };
                        Ok(look.into_iter().filter(|(_, path)| gone(path)).map(|(key, _)| (key, None)).collect())
                    })
                    .await?
                }
                None => {
                    let keys = look.into_iter().map(|(key, _)| key);
                    keys.filter(|key| self.seen.misses(self.keys.name(key))).map(|key| (key, None)).collect()
                }
            };
            if !gone.is_empty() {
                self.intake.take(Vec::new(), gone).await?;
            }
        }
    }

    /// How far a file has come that is to be put away once the function has settled it.
    fn waits<'e>(&self, entry: &'e Entry) -> Option<&'e Progress> {
        let State::Taken(progress) = &entry.state else { return None };
        // Where its events are isn't known of a file that was kept before, and one without events has nothing to wait for.
        let known = !progress.offsets.is_empty() || (self.trigger.lines.is_some() && progress.records == progress.lost);
        (self.trigger.then != Then::Keep && known).then_some(progress)
    }

    /// Looks at paths that were told. Files there are complete.
    async fn look_at(&mut self, paths: Vec<PathBuf>) -> Result<(), SourceError> {
        let Some(folder) = self.inbox.folder().cloned() else { return Ok(()) };
        for paths in paths.chunks(CHUNK) {
            let (folder, looked) = (Arc::clone(&folder), paths.to_vec());
            let looks = blocking(move || Ok(looked.iter().map(|path| folder.look(path)).collect::<Vec<_>>())).await?;
            let (mut files, mut gone) = (Vec::new(), Vec::new());
            for (path, look) in paths.iter().zip(looks) {
                match look {
                    Ok(Look::File(file)) => {
                        self.settling.remove(path);
                        files.push(file);
                    }
                    Ok(Look::Folder) => Box::pin(self.look_into(path.clone())).await?,
                    Ok(Look::Other) => {}
                    Ok(Look::Nothing) => gone.push(path),
                    Err(error) => self.cannot_read(path.clone(), &error),
                }
            }
            self.forget(gone).await?;
            let fresh = self.fresh(files).await?;
            self.take(fresh).await?;
        }
        Ok(())
    }

    /// Forgets what is no longer there.
    async fn forget(&mut self, gone: Vec<&PathBuf>) -> Result<(), SourceError> {
        let keys: Vec<_> = gone
            .iter()
            .map(|path| {
                self.settling.remove(*path);
                self.keys.of(path)
            })
            .collect();
        let entries = self.keys.recall(self.intake, keys.clone()).await?;
        let known = keys.into_iter().zip(entries).filter_map(|(key, entry)| {
            // What waits for the function is forgotten when that has settled it.
            entry.filter(|entry| self.waits(entry).is_none()).map(|_| (key, None))
        });
        let known: Vec<_> = known.collect();
        if !known.is_empty() {
            self.intake.take(Vec::new(), known).await?;
        }
        Ok(())
    }

    /// Takes the files that have stayed as they were for long enough.
    async fn settle(&mut self) -> Result<(), SourceError> {
        let Some(folder) = self.inbox.folder().cloned() else { return Ok(()) };
        let now = Instant::now();
        let settle = self.trigger.settle;
        let due: Vec<_> =
            self.settling.extract_if(|_, (_, since)| *since + settle <= now).map(|(_, (file, _))| file).collect();
        for files in due.chunks(CHUNK) {
            let (folder, looked) = (Arc::clone(&folder), files.to_vec());
            let looks =
                blocking(move || Ok(looked.iter().map(|file| folder.look(&file.path)).collect::<Vec<_>>())).await?;
            let mut complete = Vec::new();
            for (before, look) in files.iter().zip(looks) {
                match look {
                    Ok(Look::File(now)) if now == *before => complete.push(now),
                    Ok(Look::File(now)) => self.wait_for(now),
                    Ok(_) => {}
                    Err(error) => self.cannot_read(before.path.clone(), &error),
                }
            }
            let fresh = self.fresh(complete).await?;
            self.take(fresh).await?;
        }
        Ok(())
    }

    /// Waits until a file stays as it is.
    fn wait_for(&mut self, file: Found) {
        let full = self.settling.len() >= SETTLING;
        match self.settling.entry(file.path.clone()) {
            hash_map::Entry::Occupied(mut known) => {
                if known.get().0 != file {
                    known.insert((file, Instant::now()));
                }
            }
            hash_map::Entry::Vacant(_) if full => self.more = true,
            hash_map::Entry::Vacant(free) => drop(free.insert((file, Instant::now()))),
        }
    }

    /// Those that weren't seen as they are now, and those that were seen in part.
    async fn fresh(&mut self, files: Vec<Found>) -> Result<Vec<Fresh>, SourceError> {
        let keys = files.iter().map(|file| self.keys.of(&file.path)).collect();
        let entries = self.keys.recall(self.intake, keys).await?;
        let whole = self.trigger.lines.is_none() && self.trigger.then != Then::Keep;
        let seen = |(file, entry): &Fresh| match entry {
            Some(entry) if entry.stamp == file.stamp => match &entry.state {
                State::Seen => true,
                State::Reading(_) => false,
                State::Taken(progress) => !(whole && progress.offsets.is_empty()),
            },
            _ => false,
        };
        Ok(files.into_iter().zip(entries).filter(|fresh| !seen(fresh)).collect())
    }

    /// Makes events of files, and remembers them.
    async fn take(&mut self, fresh: Vec<Fresh>) -> Result<(), SourceError> {
        if fresh.is_empty() {
            return Ok(());
        }
        match self.trigger.lines {
            None => self.take_whole(fresh).await,
            Some(lines) => {
                for (file, entry) in fresh {
                    self.take_records(file, entry, lines).await?;
                }
                Ok(())
            }
        }
    }

    async fn take_whole(&mut self, fresh: Vec<Fresh>) -> Result<(), SourceError> {
        // What a crash left half known is taken again as what it was. Two objects may have the same path, as paths are
        // compared, but not the same bytes.
        let known: HashMap<_, _> = fresh
            .iter()
            .filter_map(|(file, entry)| match entry {
                Some(Entry { stamp, state: State::Taken(progress), .. }) if *stamp == file.stamp => {
                    Some((file.path.as_os_str().to_owned(), progress.id.clone()))
                }
                _ => None,
            })
            .collect();
        let files = fresh.into_iter().map(|(file, _)| file).collect();
        let mut reads = self.inbox.read_all(files, self.trigger.inline.bytes());
        let (mut batch, mut size, mut read) = (Vec::new(), 0, 0);
        while let Some((file, result)) = reads.recv().await {
            match result {
                Read::Whole(content) => {
                    // Of an object that is larger, nothing was.
                    read += content.sha256.map_or(0, |_| file.stamp.size);
                    let id = known.get(file.path.as_os_str()).cloned().unwrap_or_else(|| match &content.sha256 {
                        Some(sha256) if file.etag.is_none() => event::id(&file, sha256),
                        _ => event::id(&file, file.tag().as_bytes()),
                    });
                    match event::of_file(&self.inbox, &file, id.clone(), content) {
                        Ok(event) => {
                            size += event.size();
                            batch.push((file, Some((id, event))));
                        }
                        Err(error) => {
                            self.warn(format!("`{}` can't be an event: {error}", file.name()));
                            batch.push((file, None));
                        }
                    }
                }
                Read::Changed => self.look_again(&file.path).await?,
                Read::Gone => {}
                Read::Failed(error) => self.cannot_read(file.path, &error),
                Read::Lost(error) => return Err(error),
            }
            if batch.len() >= COMMIT.0 || size >= COMMIT.1 || read >= COMMIT.2 {
                self.commit(std::mem::take(&mut batch)).await?;
                (size, read) = (0, 0);
            }
        }
        self.commit(batch).await?;
        let told: Vec<_> = self.told.drain().map(|(key, entry)| (key, Some(entry.bytes()))).collect();
        if !told.is_empty() {
            self.intake.take(Vec::new(), told).await?;
        }
        Ok(())
    }

    /// Appends the events of whole files, and remembers these.
    async fn commit(&mut self, batch: Vec<(Found, Option<(String, Event)>)>) -> Result<(), SourceError> {
        if batch.is_empty() {
            return Ok(());
        }
        let keep = self.trigger.then == Then::Keep;
        let (mut events, mut taken) = (Vec::new(), Vec::new());
        let mut remember = std::mem::take(&mut self.told);
        for (file, event) in batch {
            let key = self.keys.of(&file.path);
            let state = match &event {
                Some((id, _)) if !keep => State::Taken(Progress { id: id.clone(), ..Progress::default() }),
                _ => State::Seen,
            };
            let entry = Entry::new(&file, state);
            if let Some((_, event)) = event {
                events.push(event);
                taken.push((key.clone(), entry.clone()));
            }
            remember.insert(key, entry);
        }
        let remember = remember.into_iter().map(|(key, entry)| (key, Some(entry.bytes()))).collect();
        let appended = self.intake.take(events, remember).await?;
        for ((key, mut entry), appended) in taken.into_iter().zip(appended) {
            if let State::Taken(progress) = &mut entry.state {
                progress.add(appended.offset);
                self.pending.add(self.keys.name(&key), progress);
                self.told.insert(key, entry);
            }
        }
        Ok(())
    }

    /// Takes the records of a file, from where it has come.
    async fn take_records(&mut self, file: Found, entry: Option<Entry>, lines: Lines) -> Result<(), SourceError> {
        let key = self.keys.of(&file.path);
        let keep = self.trigger.then == Then::Keep;
        let same = entry.as_ref().is_some_and(|entry| entry.stamp == file.stamp);
        let mut progress = match entry.map(|entry| entry.state) {
            Some(State::Reading(progress) | State::Taken(progress)) => progress,
            Some(State::Seen) | None => Progress::default(),
        };
        if !same || progress.id.is_empty() {
            progress.id = event::id(&file, file.tag().as_bytes());
        }
        let mut pieces = records::read(self.inbox.clone(), file.clone(), lines, progress.clone(), same);
        while let Some(message) = pieces.recv().await {
            let piece = match message {
                Ok(Message::Resumed) => continue,
                Ok(Message::Anew) => {
                    progress = Progress { id: progress.id, ..Progress::default() };
                    continue;
                }
                Ok(Message::Changed) => return self.look_again(&file.path).await,
                Ok(Message::Piece(piece)) => piece,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => {
                    self.cannot_read(file.path, &error);
                    return Ok(());
                }
            };
            if piece.lost > 0 {
                self.warn(format!("`{}`: {} records of more than 1MiB were left out", file.name(), piece.lost));
            }
            let before = progress.clone();
            progress.at = piece.at;
            progress.records = piece.number;
            progress.lost += piece.lost;
            progress.tail = piece.tail;
            let mut events = Vec::new();
            for record in piece.records {
                match event::of_record(&self.inbox, &file, &progress.id, record) {
                    Ok(event) => events.push(event),
                    Err(error) => {
                        progress.lost += 1;
                        self.warn(format!("a record of `{}` can't be an event: {error}", file.name()));
                    }
                }
            }
            let state = match (keep, piece.last) {
                (true, true) => State::Taken(progress.clone()),
                (true, false) => State::Reading(progress.clone()),
                // With the offsets of those before it.
                (false, _) => State::Reading(before),
            };
            let entry = Entry::new(&file, state);
            let appended = self.intake.take(events, vec![(key.clone(), Some(entry.bytes()))]).await?;
            if !keep {
                appended.into_iter().for_each(|appended| progress.add(appended.offset));
            }
            if piece.last && !keep {
                let entry = Entry::new(&file, State::Taken(progress.clone()));
                self.intake.take(Vec::new(), vec![(key.clone(), Some(entry.bytes()))]).await?;
                self.pending.add(self.keys.name(&key), &progress);
            }
        }
        Ok(())
    }

    /// Asks what has become of events, and puts away the files whose are settled.
    async fn put_away(&mut self) -> Result<(), SourceError> {
        if self.pending.asks() {
            let mut news = false;
            for oldest in [true, false] {
                loop {
                    let questions = self.pending.questions(oldest);
                    let fates = self.intake.fates(questions.iter().map(|(_, offset)| *offset).collect()).await?;
                    let settled = self.pending.answer(&questions, &fates);
                    news |= settled;
                    if !settled || !oldest || self.pending.len() == 0 {
                        break;
                    }
                    self.put_settled().await?;
                }
            }
            self.pending.rest(news);
        }
        self.put_settled().await
    }

    async fn put_settled(&mut self) -> Result<(), SourceError> {
        let settled = self.pending.settled();
        for settled in settled.chunks(CHUNK) {
            let keys: Vec<_> = settled.iter().map(|settled| self.keys.named(&hex::encode(settled.file))).collect();
            let entries = self.keys.recall(self.intake, keys.clone()).await?;
            let mut forget = Vec::new();
            // The file may have changed since, and this be about what it was.
            let known = keys.into_iter().zip(entries).zip(settled).filter_map(|((key, entry), settled)| {
                Some((key, entry.filter(|entry| entry.first() == settled.first)?, *settled))
            });
            let (inbox, leash, keys, trigger) = (&self.inbox, &self.leash, &self.keys, self.trigger);
            let puts = known.map(|(key, entry, settled)| {
                let place = match trigger.then {
                    _ if settled.dead => Place::Folder(PathBuf::from(&trigger.failed)),
                    Then::Delete => Place::Nowhere,
                    Then::Move | Then::Keep => Place::Folder(PathBuf::from(&trigger.done)),
                };
                let put: BoxFuture<'_, _> = Box::pin(async move {
                    let put = inbox.put(leash, entry.path(), entry.stamp, keys.name(&key), place).await;
                    (key, entry, settled, put)
                });
                put
            });
            let puts: Vec<_> = puts.collect();
            let puts: Vec<_> = stream::iter(puts).buffered(inbox.at_once()).collect().await;
            for (key, entry, settled, put) in puts {
                match put {
                    Ok(()) => forget.push((key, None)),
                    Err(error) => {
                        let path = name::written(&entry.path());
                        self.warn(format!("`{path}` can't be put away and stays: {error}"));
                        self.pending.stuck(settled);
                    }
                }
            }
            if !forget.is_empty() {
                self.intake.take(Vec::new(), forget).await?;
            }
        }
        Ok(())
    }

    /// A file changed while it was read: it is waited for.
    async fn look_again(&mut self, path: &Path) -> Result<(), SourceError> {
        // An object that was replaced is found by the next look.
        let Some(folder) = self.inbox.folder().cloned() else { return Ok(()) };
        let path = path.to_owned();
        if let Ok(Look::File(now)) = blocking(move || Ok(folder.look(&path))).await? {
            self.wait_for(now);
        }
        Ok(())
    }

    fn cannot_read(&mut self, path: PathBuf, error: &io::Error) {
        if self.unreadable.len() < NAMED && self.unreadable.insert(path.clone()) {
            self.warn(format!("`{}` can't be read: {error}", name::written(&path)));
        }
    }

    fn warn(&self, message: String) {
        self.intake.report(Report::Warning(message));
    }
}

async fn news(watch: Option<&Watch>) {
    match watch {
        Some(watch) => watch.hints.news().await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Does something that changes nothing on a thread that may block.
async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    tokio::task::spawn_blocking(ask).await.map_err(|error| SourceError::new(format!("a thread ended: {error}")))?
}
