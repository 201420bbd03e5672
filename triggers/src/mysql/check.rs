//! What keeps a server from feeding a trigger, with what to do about it: at deploy, and whenever the source begins.

use super::{
    Mysql,
    schema::{Kind, Table},
    session::{Session, SessionError, rights},
};
use dunlin_events::{
    manifest::{Lost, Problem, Snapshot},
    similar,
};
use mysql_async::prelude::Queryable as _;
use std::time::Duration;

/// How long a deploy waits for a server to say how things stand.
const LONGEST: Duration = Duration::from_secs(12);

impl Mysql {
    /// What of the trigger can't be. Pointers are into the trigger.
    pub(crate) async fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (index, table) in self.trigger.tables.iter().enumerate() {
            if table.filter.is_some() {
                problems.push(
                    Problem::new(format!("/tables/{index}/where"), "this server's log can't be narrowed to some rows")
                        .help("leave `where` out, and write a `filter` in a topic trigger for the topic of this one"),
                );
            }
        }
        let ask = async {
            let mut session = Session::open(&self.trigger, &*self.secrets).await?;
            self.problems(&mut session).await
        };
        let found = tokio::time::timeout(LONGEST, ask).await;
        match found.unwrap_or(Err(SessionError::Late(LONGEST))) {
            Ok(more) => problems.extend(more),
            Err(error) => {
                let (pointer, error) = error.told(&self.trigger);
                let problem = Problem::new(pointer, error.message);
                problems.push(match error.help {
                    Some(help) => problem.help(help),
                    None => problem,
                });
            }
        }
        problems
    }

    /// What of the server's settings, the account's rights and the tables can't be.
    pub(super) async fn problems(&self, session: &mut Session) -> Result<Vec<Problem>, SessionError> {
        let mut problems = Vec::new();
        let mut setting = |message: String, help: &str| problems.push(Problem::new("/url", message).help(help));
        let server = format!("{}:{}", self.trigger.url.host, self.trigger.url.port);
        if session.variable("log_bin").await?.as_deref() != Some("ON") {
            setting(
                format!("`{server}` keeps no binary log: `log_bin` is off"),
                "write `log_bin`, `binlog_format = ROW` and a `server_id` into its configuration, and start it again",
            );
            return Ok(problems);
        }
        match session.variable("binlog_format").await? {
            Some(format) if format != "ROW" => setting(
                format!("`{server}` logs statements and not the rows they change: `binlog_format` is {format}"),
                "`SET GLOBAL binlog_format = ROW`, also in its configuration; sessions that are open keep what they have",
            ),
            _ => {}
        }
        match session.variable("binlog_row_image").await? {
            Some(image) if image != "FULL" && image != "FULL_NODUP" => setting(
                format!("`{server}` logs parts of rows only: `binlog_row_image` is {image}"),
                "`SET GLOBAL binlog_row_image = FULL`, also in its configuration; sessions that are open keep what they have",
            ),
            _ => {}
        }
        match session.variable("binlog_row_value_options").await? {
            Some(options) if !options.is_empty() => setting(
                format!("`{server}` logs parts of JSON values only: `binlog_row_value_options` is {options}"),
                "`SET GLOBAL binlog_row_value_options = ''`, also in its configuration",
            ),
            _ => {}
        }
        let own: Option<u64> = session.connection.query_first("SELECT @@global.server_id").await?;
        if own == Some(u64::from(self.server_id)) || self.server_id == 0 {
            problems.push(
                Problem::new("/server_id", format!("{} is the number of `{server}` itself, or none", self.server_id))
                    .help("choose one that no server and no replica has"),
            );
        }
        let granted: Vec<String> = session.connection.query("SHOW GRANTS").await?;
        let may = |names: &[&str]| {
            let all = ["ALL PRIVILEGES ON *.*"];
            granted.iter().any(|grant| {
                let grant = grant.to_ascii_uppercase();
                let global = grant.contains(" ON *.* ");
                global && (all.iter().any(|all| grant.contains(all)) || names.iter().any(|name| has(&grant, name)))
            })
        };
        // Rights that come by a role are not in the list; the source would tell.
        let by_role = granted.iter().any(|grant| !grant.to_ascii_uppercase().contains(" ON "));
        for (names, what) in [
            (&["REPLICATION SLAVE", "REPLICATION REPLICA"][..], "REPLICATION SLAVE"),
            (
                &["REPLICATION CLIENT", "BINLOG MONITOR", "SUPER"][..],
                if session.mariadb { "BINLOG MONITOR" } else { "REPLICATION CLIENT" },
            ),
        ] {
            if !by_role && !may(names) {
                problems.push(
                    Problem::new(
                        "/url",
                        format!("`{}` has no right to read the log: it lacks `{what}`", self.trigger.url.user),
                    )
                    .help(rights(&self.trigger.url)),
                );
            }
        }
        let outbox = self.trigger.outbox.iter().map(|outbox| ("/outbox/table".to_owned(), &outbox.table));
        let tables =
            self.trigger.tables.iter().enumerate().map(|(index, table)| (format!("/tables/{index}"), &table.name));
        for (pointer, name) in tables.chain(outbox) {
            match Table::read(session, name).await? {
                None => problems.push(self.missing(session, pointer, name).await?),
                Some(table) => self.judge(session, &pointer, &table, &mut problems).await?,
            }
        }
        Ok(problems)
    }

    async fn missing(
        &self,
        session: &mut Session,
        pointer: String,
        name: &dunlin_events::manifest::TableName,
    ) -> Result<Problem, SessionError> {
        let all: Vec<String> = session
            .connection
            .exec(
                "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_TYPE = 'BASE TABLE'",
                (&name.schema,),
            )
            .await?;
        let problem = Problem::new(
            pointer,
            format!("there is no table `{name}`, or `{}` may not read it", self.trigger.url.user),
        );
        Ok(match similar(&name.name, all.iter().map(String::as_str)) {
            Some(other) => problem.help(format!("did you mean `{}.{other}`?", name.schema)),
            None => problem.help(format!(
                "make it, or `GRANT SELECT ON {} TO {}`",
                super::snapshot::name(name),
                self.trigger.url.user
            )),
        })
    }

    async fn judge(
        &self,
        session: &mut Session,
        pointer: &str,
        table: &Table,
        problems: &mut Vec<Problem>,
    ) -> Result<(), SessionError> {
        let name = &table.name;
        // The catalogue finds a table whatever the case of its name; the log has it as it was made.
        let made: Option<(String, String)> = session
            .connection
            .exec_first(
                "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
                (&name.schema, &name.name),
            )
            .await?;
        if let Some((schema, made)) = made
            && (schema != name.schema || made != name.name)
        {
            problems.push(
                Problem::new(pointer, format!("the table `{name}` is called `{schema}.{made}`"))
                    .help("write it like that"),
            );
        }
        if table.key.is_empty() {
            problems.push(
                Problem::new(pointer, format!("the table `{name}` has no key, so its rows can't be told apart"))
                    .help(format!("give it a primary key, or a unique index without NULLs: `ALTER TABLE {} ADD PRIMARY KEY (...)`", super::snapshot::name(name))),
            );
        }
        let transactional = matches!(table.engine.as_str(), "InnoDB" | "ROCKSDB" | "TokuDB");
        let reads = self.trigger.snapshot != Snapshot::Never || self.trigger.lost == Lost::Snapshot;
        if reads && !transactional {
            problems.push(
                Problem::new(
                    pointer,
                    format!("the table `{name}` is kept by {}, which has no snapshot of one moment", table.engine),
                )
                .help(format!(
                    "`ALTER TABLE {} ENGINE = InnoDB`, or write `snapshot: never`",
                    super::snapshot::name(name)
                )),
            );
        }
        let chosen = self.trigger.columns_of(name);
        for (index, column) in chosen.iter().enumerate() {
            if table.columns.iter().any(|known| known.name == *column) {
                continue;
            }
            let problem = Problem::new(
                format!("{pointer}/columns/{index}"),
                format!("the table `{name}` has no column `{column}`"),
            );
            problems.push(match similar(column, table.columns.iter().map(|known| &*known.name)) {
                Some(other) => problem.help(format!("did you mean `{other}`?")),
                None => problem.help("take it out of the list"),
            });
        }
        if let Some(key) = table.key.iter().find(|key| !chosen.is_empty() && !chosen.contains(key)) {
            problems.push(
                Problem::new(format!("{pointer}/columns"), format!("the key's column `{key}` is not among them"))
                    .help(format!("add `{key}`")),
            );
        }
        for column in &table.columns {
            let wanted = chosen.is_empty() || chosen.contains(&column.name);
            if let (true, Kind::Unknown(what)) = (wanted, &column.kind) {
                problems.push(
                    Problem::new(
                        pointer,
                        format!("the column `{}` of `{name}` can't be read: it is {what}", column.name),
                    )
                    .help("convert it, to `utf8mb4` if it is a text, or list the `columns` without it"),
                );
            }
        }
        if let Some(outbox) = self.trigger.outbox.as_ref().filter(|outbox| outbox.table == *name) {
            for (pointer, column) in outbox.columns() {
                if table.columns.iter().all(|known| known.name != *column) {
                    problems.push(
                        Problem::new(
                            format!("/outbox{pointer}"),
                            format!("the table `{name}` has no column `{column}`"),
                        )
                        .help("name the column that has it"),
                    );
                }
            }
        }
        Ok(())
    }
}

/// Whether a grant names this right, and not one that only contains its words.
fn has(grant: &str, name: &str) -> bool {
    let list = grant.strip_prefix("GRANT ").and_then(|grant| grant.split_once(" ON ")).map_or("", |(list, _)| list);
    list.split(',').any(|right| right.trim() == name)
}
