//! The registry: functions, their versions and components.
//!
//! A component is kept once however many versions use it, and goes with the last of them. Manifests and what is known of a
//! component are kept as JSON, the form in which their types promise to stay readable.

use crate::{Failed, Stop, Store, int, json, text};
use bytes::Bytes;
use dunlin_events::{
    BoxFuture, Component, Digest, FunctionName, Manifest, Registry, Version,
    registry::{Deployed, NewVersion, RegistryError, Versions},
    units::now_millis,
};
use rusqlite::{Connection, OptionalExtension, Row};
use std::collections::{BTreeSet, HashSet};

/// A query for whole versions, with the conditions given; [`version`] reads its rows.
macro_rules! select_versions {
    ($conditions:literal) => {
        concat!(
            "SELECT v.number, v.deployed_at, v.manifest, c.info, f.active FROM functions f
             JOIN versions v ON v.function = f.name JOIN components c ON c.id = v.component ",
            $conditions
        )
    };
}

type Result<T, E = Stop<RegistryError>> = std::result::Result<T, E>;

impl Registry for Store {
    fn deploy(&self, functions: Vec<NewVersion>) -> BoxFuture<'_, Result<Vec<Deployed>, RegistryError>> {
        Box::pin(async move {
            let mut names = HashSet::new();
            if let Some(twice) = functions.iter().find(|function| !names.insert(&function.manifest.name)) {
                return Err(RegistryError::Twice(twice.manifest.name.clone()));
            }
            drop(names);
            Ok(self.write(move |connection| deploy(connection, &functions, now_millis())).await?)
        })
    }

    fn active(&self) -> BoxFuture<'_, Result<Vec<Version>, RegistryError>> {
        Box::pin(async { Ok(self.read(active).await?) })
    }

    fn versions(&self, name: &FunctionName) -> BoxFuture<'_, Result<Versions, RegistryError>> {
        let name = name.clone();
        Box::pin(async { Ok(self.read(move |connection| versions(connection, &name)).await?) })
    }

    fn rollback(&self, name: &FunctionName, to: Option<u64>) -> BoxFuture<'_, Result<Version, RegistryError>> {
        let name = name.clone();
        Box::pin(async move { Ok(self.write(move |connection| rollback(connection, &name, to)).await?) })
    }

    fn remove(&self, name: &FunctionName) -> BoxFuture<'_, Result<(), RegistryError>> {
        let name = name.clone();
        Box::pin(async { Ok(self.write(move |connection| remove(connection, &name)).await?) })
    }

    fn component(&self, digest: Digest) -> BoxFuture<'_, Result<Option<Component>, RegistryError>> {
        Box::pin(async move {
            let component = self.read(move |connection| {
                let mut statement = connection.prepare_cached("SELECT info FROM components WHERE digest = ?1")?;
                Ok(statement.query_row([digest.to_string()], |row| json(row, 0)).optional()?)
            });
            Ok(component.await?)
        })
    }

    fn component_bytes(&self, digest: Digest) -> BoxFuture<'_, Result<Bytes, RegistryError>> {
        Box::pin(async move {
            let bytes = self.read(move |connection| {
                let mut statement = connection.prepare_cached("SELECT bytes FROM components WHERE digest = ?1")?;
                let bytes = statement.query_row([digest.to_string()], |row| row.get::<_, Vec<u8>>(0)).optional()?;
                bytes.map(Bytes::from).ok_or(Stop::Refused(RegistryError::NoComponent(digest)))
            });
            Ok(bytes.await?)
        })
    }
}

impl From<Failed<RegistryError>> for RegistryError {
    fn from(failed: Failed<RegistryError>) -> Self {
        match failed {
            Failed::Refused(error) => error,
            Failed::Unavailable(reason) => Self::Unavailable(reason),
        }
    }
}

fn deploy(connection: &Connection, functions: &[NewVersion], deployed_at: u64) -> Result<Vec<Deployed>> {
    // First all components, so that a function may use one that a later function of the deploy brings. None is stored
    // in vain: a function that is unchanged has its component here already.
    let mut known = connection.prepare_cached("SELECT 1 FROM components WHERE digest = ?1")?;
    let mut insert = connection.prepare_cached("INSERT INTO components (digest, info, bytes) VALUES (?1, ?2, ?3)")?;
    for NewVersion { component, bytes, .. } in functions {
        let digest = component.digest.to_string();
        if let Some(bytes) = bytes
            && !known.exists([&digest])?
        {
            insert.execute((&digest, text(component), &bytes[..]))?;
        }
    }
    functions.iter().map(|function| deploy_one(connection, function, deployed_at)).collect()
}

fn deploy_one(connection: &Connection, new: &NewVersion, deployed_at: u64) -> Result<Deployed> {
    let name = new.manifest.name.as_str();
    let active = connection
        .prepare_cached(select_versions!("WHERE f.name = ?1 AND v.number = f.active"))?
        .query_row([name], version)
        .optional()?;
    if let Some(version) = active
        && version.component.digest == new.component.digest
        && version.manifest == new.manifest
    {
        return Ok(Deployed { version, unchanged: true });
    }
    let number: u64 = connection
        .prepare_cached("SELECT coalesce(max(number), 0) + 1 FROM versions WHERE function = ?1")?
        .query_row([name], |row| row.get(0))?;
    let component = connection
        .prepare_cached("SELECT id, info FROM components WHERE digest = ?1")?
        .query_row([new.component.digest.to_string()], |row| Ok((row.get::<_, i64>(0)?, json(row, 1)?)))
        .optional()?;
    let Some((id, component)) = component else {
        return Err(Stop::Refused(RegistryError::NoComponent(new.component.digest)));
    };
    connection
        .prepare_cached(
            "INSERT INTO versions (function, number, component, deployed_at, manifest) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((name, number, id, deployed_at, text(&new.manifest)))?;
    connection
        .prepare_cached(
            "INSERT INTO functions (name, active) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET active = excluded.active",
        )?
        .execute((name, number))?;
    let version = Version { number, manifest: new.manifest.clone(), component, deployed_at };
    Ok(Deployed { version, unchanged: false })
}

fn active(connection: &Connection) -> Result<Vec<Version>> {
    let mut statement = connection.prepare_cached(select_versions!("WHERE v.number = f.active ORDER BY f.name"))?;
    Ok(statement.query_map([], version)?.collect::<Result<_, _>>()?)
}

fn versions(connection: &Connection, name: &FunctionName) -> Result<Versions> {
    let mut statement = connection.prepare_cached(select_versions!("WHERE f.name = ?1 ORDER BY v.number DESC"))?;
    let mut active = None;
    let rows = statement.query_map([name.as_str()], |row| {
        active = Some(row.get("active")?);
        version(row)
    })?;
    let versions = rows.collect::<Result<_, _>>()?;
    let active = active.ok_or_else(|| Stop::Refused(RegistryError::NoFunction(name.clone())))?;
    Ok(Versions { active, versions })
}

fn rollback(connection: &Connection, name: &FunctionName, to: Option<u64>) -> Result<Version> {
    let active: u64 = connection
        .prepare_cached("SELECT active FROM functions WHERE name = ?1")?
        .query_row([name.as_str()], |row| row.get(0))
        .optional()?
        .ok_or_else(|| Stop::Refused(RegistryError::NoFunction(name.clone())))?;
    // Numbers count from 1 and have no gaps: versions go only when their function goes.
    let number = to.unwrap_or(active - 1);
    let version = connection
        .prepare_cached(select_versions!("WHERE f.name = ?1 AND v.number = ?2"))?
        .query_row((name.as_str(), int(number)), version)
        .optional()?
        .ok_or_else(|| {
            Stop::Refused(match to {
                Some(number) => RegistryError::NoVersion { name: name.clone(), number },
                None => RegistryError::NoEarlier { name: name.clone(), active },
            })
        })?;
    connection.prepare_cached("UPDATE functions SET active = ?2 WHERE name = ?1")?.execute((name.as_str(), number))?;
    Ok(version)
}

fn remove(connection: &Connection, name: &FunctionName) -> Result<()> {
    if connection.prepare_cached("DELETE FROM functions WHERE name = ?1")?.execute([name.as_str()])? == 0 {
        return Err(Stop::Refused(RegistryError::NoFunction(name.clone())));
    }
    let used: BTreeSet<i64> = connection
        .prepare_cached("DELETE FROM versions WHERE function = ?1 RETURNING component")?
        .query_map([name.as_str()], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut unused = connection.prepare_cached(
        "DELETE FROM components WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM versions WHERE component = ?1)",
    )?;
    for component in used {
        unused.execute([component])?;
    }
    Ok(())
}

fn version(row: &Row<'_>) -> rusqlite::Result<Version> {
    Ok(Version {
        number: row.get("number")?,
        deployed_at: row.get("deployed_at")?,
        manifest: json::<Manifest>(row, 2)?,
        component: json::<Component>(row, 3)?,
    })
}
