//! What a trigger needs upstream: whether it is there, and making it.
//!
//! All that can be wrong is asked about before anything is made, with the same questions at deploy and when the source
//! starts. What can only be tried (a row filter, a column list) is tried in a transaction that is rolled back.

use super::{
    Postgres,
    catalog::{number, optional, qualified, string, truth},
    connection::{Connection, ConnectionError, Row, identifier, literal},
    lsn::Lsn,
};
use dunlin_events::{
    manifest::{DatabaseTable, Operation, Outbox, Problem, Snapshot, TableName},
    source::SourceError,
};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// What a publication's comment begins with when a trigger has made it, and so may change and drop it.
const MADE: &str = "made by Dunlin ";
/// How long the connection that had the slot before may take to be gone.
const RELEASE: Duration = Duration::from_secs(15);

/// A slot as it is.
pub(super) struct Slot {
    pub(super) confirmed: Lsn,
    /// The log it needs is gone.
    pub(super) lost: bool,
}

/// A table's name to name it by, and its columns and rows, as a publication has it.
fn published(table: &DatabaseTable) -> String {
    let mut sql = qualified(&table.name);
    if !table.columns.is_empty() {
        let columns: Vec<_> = table.columns.iter().map(|column| identifier(column)).collect();
        sql.push_str(&format!(" ({})", columns.join(", ")));
    }
    if let Some(filter) = &table.filter {
        sql.push_str(&format!(" WHERE ({filter})"));
    }
    sql
}

impl Postgres {
    /// The tables it reads.
    pub(super) fn tables(&self) -> Vec<DatabaseTable> {
        let outbox = self.trigger.outbox.iter();
        let outbox =
            outbox.map(|outbox| DatabaseTable { name: outbox.table.clone(), columns: Vec::new(), filter: None });
        self.trigger.tables.iter().cloned().chain(outbox).collect()
    }

    fn operations(&self) -> String {
        let taken = Operation::ALL.into_iter().filter(|operation| self.trigger.takes(*operation));
        taken.map(Operation::as_str).collect::<Vec<_>>().join(", ")
    }

    /// Whether changes of rows that were there before are taken: the database must be able to name those rows.
    fn takes_old_rows(&self) -> bool {
        self.trigger.takes(Operation::Update) || self.trigger.takes(Operation::Delete)
    }

    /// What is wrong upstream, as far as it can be asked. Pointers are into the trigger.
    pub(super) async fn problems(&self, connection: &mut Connection) -> Result<Vec<Problem>, ConnectionError> {
        let settings = connection
            .query(
                "SELECT current_setting('wal_level'), current_setting('server_version_num'), pg_is_in_recovery(), \
                 has_database_privilege(current_database(), 'CREATE')",
            )
            .await?;
        let settings = settings.first().cloned().unwrap_or_default();
        let place = self.trigger.url.place();
        if number::<u32>(&settings, 1).is_none_or(|version| version < 150_000) {
            let message = format!("`{place}` runs PostgreSQL {}", connection.version());
            return Ok(vec![Problem::new("/url", message).help("a database trigger needs PostgreSQL 15 or later")]);
        }
        if string(&settings, 0) != "logical" {
            let message = format!("`{place}` has `wal_level = {}`, and can tell no changes", string(&settings, 0));
            return Ok(vec![
                Problem::new("/url", message)
                    .help("ALTER SYSTEM SET wal_level = logical; and restart the server, once"),
            ]);
        }
        if truth(&settings, 2) {
            let message = format!("`{place}` is a standby");
            return Ok(vec![Problem::new("/url", message).help("name the primary: slots are made there")]);
        }
        let publication = self.publication(connection).await?;
        let mut problems = Vec::new();
        let tables = self.tables();
        for (index, table) in tables.iter().enumerate() {
            let pointer = match &self.trigger.outbox {
                Some(_) => "/outbox/table".to_owned(),
                None => format!("/tables/{index}"),
            };
            problems.extend(self.table_problems(connection, table, &pointer, publication.is_none()).await?);
        }
        if publication.is_none() && !truth(&settings, 3) {
            let message = format!("`{}` may not make a publication in `{place}`", self.trigger.url.user);
            problems.push(Problem::new("/url", message).help(format!(
                "GRANT CREATE ON DATABASE {} TO {}; or have it made: {}; and name it: `publication: {}`",
                identifier(&self.trigger.url.database),
                identifier(&self.trigger.url.user),
                self.create_publication(&self.publication),
                self.publication
            )));
        }
        match publication {
            Some(comment) if !comment.starts_with(MADE) => {
                problems.extend(self.given_publication_problems(connection, &tables).await?);
            }
            Some(comment) if comment == self.publication_comment() => {}
            _ if problems.is_empty() => problems.extend(self.try_publication(connection).await?),
            _ => {}
        }
        problems.extend(self.slot_problems(connection).await?);
        Ok(problems)
    }

    async fn table_problems(
        &self,
        connection: &mut Connection,
        table: &DatabaseTable,
        pointer: &str,
        makes_publication: bool,
    ) -> Result<Vec<Problem>, ConnectionError> {
        let name = &table.name;
        let sql = format!(
            "SELECT c.relkind, c.relpersistence, c.relreplident, has_table_privilege(c.oid, 'SELECT'), \
             pg_has_role(c.relowner, 'USAGE'), \
             (SELECT count(*) FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary), \
             (SELECT string_agg(a.attname, E'\\n' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid \
              AND a.attnum > 0 AND NOT a.attisdropped), \
             (SELECT string_agg(a.attname, E'\\n' ORDER BY a.attnum) FROM pg_index i JOIN pg_attribute a \
              ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) WHERE i.indrelid = c.oid \
              AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END) \
             FROM pg_class c WHERE c.oid = to_regclass({})",
            literal(&qualified(name))
        );
        let rows = connection.query(&sql).await?;
        let Some(row) = rows.first() else {
            return Ok(vec![self.missing_table(connection, name, pointer).await?]);
        };
        let user = identifier(&self.trigger.url.user);
        let mut problems = Vec::new();
        if !matches!(&*string(row, 0), "r" | "p") {
            let message = format!("`{name}` is no table: only tables have changes");
            return Ok(vec![Problem::new(pointer, message).help("name the tables below it")]);
        }
        if string(row, 1) != "p" {
            let message = format!("`{name}` is temporary or unlogged: its changes are not in the database's log");
            return Ok(vec![
                Problem::new(pointer, message).help(format!("ALTER TABLE {} SET LOGGED", qualified(name))),
            ]);
        }
        let (identity, has_key) = (string(row, 2), number(row, 5).unwrap_or(0) > 0);
        let nameless = identity == "n" || (identity == "d" && !has_key);
        if nameless && self.takes_old_rows() {
            let what = if has_key { "has `REPLICA IDENTITY NOTHING`" } else { "has no primary key" };
            // Said in full: it is the application that would fail, not the function.
            let message = format!(
                "`{name}` {what}: once its changes are published, the database refuses updates and deletes of it"
            );
            let help = if has_key {
                format!("ALTER TABLE {} REPLICA IDENTITY DEFAULT", qualified(name))
            } else {
                format!(
                    "give it a primary key, or ALTER TABLE {} REPLICA IDENTITY FULL, or write `operations: [insert, truncate]`",
                    qualified(name)
                )
            };
            problems.push(Problem::new(pointer, message).help(help));
        }
        if makes_publication && !truth(row, 4) {
            let message = format!("`{}` does not own `{name}`, and so can't publish it", self.trigger.url.user);
            problems.push(Problem::new(pointer, message).help(format!(
                "have the owner make the publication: {}; and name it: `publication: {}`",
                self.create_publication(&self.publication),
                self.publication
            )));
        }
        if !truth(row, 3) && self.trigger.snapshot != Snapshot::Never {
            let message = format!("`{}` may not read `{name}`, which a snapshot does", self.trigger.url.user);
            problems.push(
                Problem::new(pointer, message)
                    .help(format!("GRANT SELECT ON {} TO {user}; or write `snapshot: never`", qualified(name))),
            );
        }
        let columns = string(row, 6);
        let columns: Vec<_> = columns.lines().collect();
        let named =
            table.columns.iter().enumerate().map(|(index, column)| (format!("{pointer}/columns/{index}"), column));
        let of_outbox = self.trigger.outbox.iter().flat_map(Outbox::columns);
        let of_outbox = of_outbox.map(|(pointer, column)| (format!("/outbox{pointer}"), column));
        for (pointer, column) in named.chain(of_outbox) {
            if !columns.contains(&&**column) {
                let message = format!("`{name}` has no column `{column}`");
                problems.push(Problem::new(pointer, message).help(format!("it has `{}`", columns.join("`, `"))));
            }
        }
        let missing: Vec<_> = string(row, 7)
            .lines()
            .filter(|column| !table.columns.is_empty() && !table.columns.iter().any(|named| named == column))
            .map(ToOwned::to_owned)
            .collect();
        if !missing.is_empty() && self.takes_old_rows() {
            let message = format!("`columns` of `{name}` leaves out `{}` of its key", missing.join("`, `"));
            problems.push(
                Problem::new(format!("{pointer}/columns"), message)
                    .help("the database refuses updates of a table that is published without its key: add it"),
            );
        }
        Ok(problems)
    }

    async fn missing_table(
        &self,
        connection: &mut Connection,
        name: &TableName,
        pointer: &str,
    ) -> Result<Problem, ConnectionError> {
        let sql = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') \
                   ORDER BY 1, 2 LIMIT 1000";
        let known: Vec<_> = connection
            .query(sql)
            .await?
            .iter()
            .map(|row| TableName { schema: string(row, 0), name: string(row, 1) }.to_string())
            .collect();
        let wanted = name.to_string();
        let message = format!("there is no table `{wanted}` in `{}`", self.trigger.url.place());
        let problem = Problem::new(pointer, message);
        let similar = dunlin_events::similar(&wanted, known.iter().map(String::as_str));
        Ok(match similar {
            Some(similar) => problem.help(format!("did you mean `{similar}`?")),
            None if known.is_empty() => problem.help("it has none at all: is this the right database?"),
            None => problem.help("write it as the database does: names have upper and lower case there"),
        })
    }

    /// A publication that somebody else looks after.
    async fn given_publication_problems(
        &self,
        connection: &mut Connection,
        tables: &[DatabaseTable],
    ) -> Result<Vec<Problem>, ConnectionError> {
        let sql = format!(
            "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = {}",
            literal(&self.publication)
        );
        let has: Vec<_> = connection
            .query(&sql)
            .await?
            .iter()
            .map(|row| TableName { schema: string(row, 0), name: string(row, 1) })
            .collect();
        let mut problems = Vec::new();
        for (index, table) in tables.iter().enumerate() {
            if !has.contains(&table.name) {
                let message = format!("the publication `{}` does not have `{}`", self.publication, table.name);
                problems.push(Problem::new(format!("/tables/{index}"), message).help(format!(
                    "ALTER PUBLICATION {} ADD TABLE {}",
                    identifier(&self.publication),
                    published(table)
                )));
            }
            if table.filter.is_some() {
                let message = format!(
                    "the publication `{}` was not made here, and says itself which rows it has",
                    self.publication
                );
                problems.push(
                    Problem::new(format!("/tables/{index}/where"), message)
                        .help("leave `where` out, or leave `publication` out to have one made"),
                );
            }
        }
        Ok(problems)
    }

    /// Makes the publication and takes it back: what is wrong with row filters and column lists only the database knows,
    /// and some of it only when a row is changed.
    async fn try_publication(&self, connection: &mut Connection) -> Result<Vec<Problem>, ConnectionError> {
        let mut problems = Vec::new();
        for (index, table) in self.trigger.tables.iter().enumerate() {
            if table.filter.is_none() && table.columns.is_empty() {
                continue;
            }
            connection.query("BEGIN").await?;
            let create = format!(
                "CREATE PUBLICATION dunlin_tries FOR TABLE {} WITH (publish = '{}')",
                published(table),
                self.operations()
            );
            let mut tried = connection.query(&create).await;
            if tried.is_ok() && self.takes_old_rows() {
                tried = connection.query(&format!("EXPLAIN DELETE FROM {} WHERE false", qualified(&table.name))).await;
            }
            connection.query("ROLLBACK").await?;
            match tried {
                Ok(_) => {}
                Err(ConnectionError::Server(error)) => {
                    // Who may not delete can't try, and others who may find out.
                    if error.code == "42501" {
                        continue;
                    }
                    let at = if table.filter.is_some() { "where" } else { "columns" };
                    let message = match error.detail {
                        Some(detail) => format!("the database refuses it: {}; {detail}", error.message),
                        None => format!("the database refuses it: {}", error.message),
                    };
                    let help = error.hint.unwrap_or_else(|| {
                        "a filter can use the columns of the key, constants and built-in functions; more with `REPLICA IDENTITY FULL` or `operations: [insert]`".into()
                    });
                    problems.push(Problem::new(format!("/tables/{index}/{at}"), message).help(help));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(problems)
    }

    async fn slot_problems(&self, connection: &mut Connection) -> Result<Vec<Problem>, ConnectionError> {
        let sql = format!(
            "SELECT slot_type, plugin, database = current_database(), database FROM pg_replication_slots \
             WHERE slot_name = {}",
            literal(&self.slot)
        );
        let pointer = if self.trigger.slot.is_some() { "/slot" } else { "/url" };
        if let Some(row) = connection.query(&sql).await?.first() {
            if optional(row, 1).as_deref() != Some("pgoutput") || !truth(row, 2) {
                let of = optional(row, 3).map(|database| format!(" of `{database}`")).unwrap_or_default();
                let message = format!(
                    "the slot `{}` is a {} one{of} with the plugin `{}`",
                    self.slot,
                    string(row, 0),
                    optional(row, 1).unwrap_or_else(|| "none".into())
                );
                let help =
                    "name another: a trigger needs a logical slot of its own database with `pgoutput`, and makes it";
                return Ok(vec![Problem::new(pointer, message).help(help)]);
            }
            return Ok(Vec::new());
        }
        let sql = "SELECT current_setting('max_replication_slots')::int8 - (SELECT count(*) FROM pg_replication_slots)";
        let free: i64 = connection.query(sql).await?.first().and_then(|row| number(row, 0)).unwrap_or(1);
        if free <= 0 {
            let message = format!("`{}` has no replication slot left", self.trigger.url.place());
            return Ok(vec![Problem::new(pointer, message).help(
                "raise `max_replication_slots`, or drop a slot nobody reads: SELECT * FROM pg_replication_slots",
            )]);
        }
        Ok(Vec::new())
    }

    fn create_publication(&self, name: &str) -> String {
        let tables: Vec<_> = self.tables().iter().map(published).collect();
        format!(
            "CREATE PUBLICATION {} FOR TABLE {} WITH (publish = '{}', publish_via_partition_root = true)",
            identifier(name),
            tables.join(", "),
            self.operations()
        )
    }

    /// The comment of a publication that is as the manifest says.
    fn publication_comment(&self) -> String {
        let digest = hex::encode(Sha256::digest(self.create_publication(&self.publication)));
        format!("{MADE}({})", &digest[..16])
    }

    /// The comment of the publication; empty without one, `None` when there is no publication.
    async fn publication(&self, connection: &mut Connection) -> Result<Option<String>, ConnectionError> {
        let sql = format!(
            "SELECT obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = {}",
            literal(&self.publication)
        );
        Ok(connection.query(&sql).await?.first().map(|row| string(row, 0)))
    }

    /// Makes the publication, or makes it what the manifest says. One that somebody else made is left alone.
    ///
    /// It comes before the slot: what was in the log before a publication can't be decoded with it.
    pub(super) async fn make_publication(&self, connection: &mut Connection) -> Result<(), ConnectionError> {
        let create = self.create_publication(&self.publication);
        let comment = self.publication_comment();
        let name = identifier(&self.publication);
        let told = format!("COMMENT ON PUBLICATION {name} IS {}", literal(&comment));
        match self.publication(connection).await? {
            None => {
                connection.query(&format!("BEGIN; {create}; {told}; COMMIT")).await?;
            }
            Some(there) if there.starts_with(MADE) && there != comment => {
                let tables: Vec<_> = self.tables().iter().map(published).collect();
                let (tables, operations) = (tables.join(", "), self.operations());
                connection
                    .query(&format!(
                        "BEGIN; ALTER PUBLICATION {name} SET TABLE {tables}; \
                         ALTER PUBLICATION {name} SET (publish = '{operations}'); {told}; COMMIT"
                    ))
                    .await?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    pub(super) async fn slot(&self, connection: &mut Connection) -> Result<Option<Slot>, ConnectionError> {
        let sql = format!(
            "SELECT confirmed_flush_lsn, wal_status FROM pg_replication_slots WHERE slot_name = {}",
            literal(&self.slot)
        );
        let read = |row: &Row| Slot {
            confirmed: optional(row, 0).and_then(|lsn| lsn.parse().ok()).unwrap_or_default(),
            lost: optional(row, 1).is_none_or(|status| status == "lost"),
        };
        Ok(connection.query(&sql).await?.first().map(read))
    }

    /// Makes the slot. It waits until the transactions that run now have ended. Answers where it begins.
    pub(super) async fn make_slot(&self, connection: &mut Connection) -> Result<Lsn, ConnectionError> {
        let sql = format!("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput NOEXPORT_SNAPSHOT", identifier(&self.slot));
        consistent_point(&connection.query(&sql).await?)
    }

    /// Drops the slot, once nobody reads it any more.
    pub(super) async fn drop_slot(&self, connection: &mut Connection) -> Result<(), ConnectionError> {
        let sql = format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {}",
            literal(&self.slot)
        );
        patiently(connection, Wish::Query(&sql)).await
    }

    /// Takes away what was made: the slot, and the publication if it was made here.
    pub(super) async fn take_away(&self, connection: &mut Connection) -> Result<(), ConnectionError> {
        self.drop_slot(connection).await?;
        if self.publication(connection).await?.is_some_and(|comment| comment.starts_with(MADE)) {
            connection.query(&format!("DROP PUBLICATION IF EXISTS {}", identifier(&self.publication))).await?;
        }
        Ok(())
    }

    /// An error of a connection, with what to do about it.
    pub(super) fn explained(&self, error: &ConnectionError) -> SourceError {
        if error.code() == Some("55006") {
            return SourceError::new(format!("{error}")).help(format!(
                "the slot `{}` has another reader: a slot serves one trigger. Name another by `slot`",
                self.slot
            ));
        }
        let secret = self.trigger.password.as_ref().map(|name| name.as_str());
        super::connection::explained(error, &self.trigger.url, secret)
    }
}

/// The place in the log that a new slot begins at.
pub(super) fn consistent_point(rows: &[Row]) -> Result<Lsn, ConnectionError> {
    let point = rows.first().and_then(|row| optional(row, 1)).and_then(|lsn| lsn.parse().ok());
    point.ok_or(ConnectionError::Protocol("an answer to CREATE_REPLICATION_SLOT"))
}

/// What is asked of a slot.
pub(super) enum Wish<'a> {
    Query(&'a str),
    Replicate(&'a str),
}

/// Asks again for a while as long as a slot has a reader: one that is gone is noticed by the server a moment later.
pub(super) async fn patiently(connection: &mut Connection, wish: Wish<'_>) -> Result<(), ConnectionError> {
    let begun = tokio::time::Instant::now();
    loop {
        let asked = match wish {
            Wish::Query(sql) => connection.query(sql).await.map(|_| ()),
            Wish::Replicate(command) => connection.replicate(command).await,
        };
        match asked {
            Err(error) if error.code() == Some("55006") && begun.elapsed() < RELEASE => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            other => return other,
        }
    }
}
