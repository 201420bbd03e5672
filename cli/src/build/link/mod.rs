//! Links a component: of the core modules that its program consists of it makes one.
//!
//! `componentize-py` makes a component of shared libraries (libc, Python, its own runtime), each a module that imports its
//! memory, its place in it and what it calls from the others. That was needed to load them. When the memory is kept, all of
//! it is known: the place of everything is a number, a call between two libraries is a call, and the table of functions is
//! part of the module, so that a sandbox need not fill it. Each fresh sandbox and each first call pays for what isn't.
//!
//! ```text
//!  import ─▶ lower ─▶ libc ─▶ python ─▶ runtime ─▶ lift        import ─▶ lower ─▶ one module ─▶ lift
//!                      ╰────── memory, table ─────╯
//! ```
//! What is outside of the modules stays as it is, and so do two of them that break a circle: what the libraries import needs
//! their memory, so there is a table that they call through, and a module that fills it once the memory is there. `merge.rs`
//! makes the one of the many.

mod merge;

use anyhow::{Context as _, bail};
use merge::{OUTSIDE, Source, Wanted, merge};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};
use wasm_encoder::{
    Alias, CanonicalFunctionSection, ComponentAliasSection, ComponentSectionId, ExportKind, InstanceSection, ModuleArg,
    RawSection,
    reencode::{Error, Reencode, ReencodeComponent},
};
use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentAlias, Import, Instance, InstantiationArg, Parser, Payload, TypeRef,
};

/// Links a component. One whose modules have nothing in common is answered with as it is.
pub(super) fn link(component: &[u8]) -> anyhow::Result<Vec<u8>> {
    let component = Component::read(component).context("this is no component")?;
    let linked = component.linked()?;
    if linked.len() < 2 {
        return Ok(component.bytes.to_vec());
    }
    Writer::new(&component, &linked)?.write().context("its modules can't be linked")
}

/// A component as it is written, as far as its core modules are concerned.
struct Component<'a> {
    bytes: &'a [u8],
    items: Vec<Item<'a>>,
    modules: Vec<Range<usize>>,
    instances: Vec<Instance<'a>>,
    /// What the indices of each kind are.
    entities: HashMap<ExportKind, Vec<Entity<'a>>>,
}

enum Item<'a> {
    /// Nothing of the modules'.
    Section(u8, Range<usize>),
    Alias(ComponentAlias<'a>),
    /// With the index of the core function it makes, if it makes one.
    Canonical(CanonicalFunction, Option<u32>),
    Instance(u32),
}

/// Something of a module's world.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Entity<'a> {
    /// A function that crosses the border of the modules, by its index.
    Canonical(u32),
    Export {
        instance: u32,
        name: &'a str,
    },
}

impl<'a> Component<'a> {
    fn read(bytes: &'a [u8]) -> anyhow::Result<Self> {
        let mut component =
            Self { bytes, items: Vec::new(), modules: Vec::new(), instances: Vec::new(), entities: HashMap::new() };
        let mut depth = 0;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            match &payload {
                Payload::End(_) => {
                    depth -= 1;
                    continue;
                }
                Payload::Version { .. } => {
                    depth += 1;
                    continue;
                }
                _ if depth > 1 => continue,
                _ => {}
            }
            match payload {
                Payload::ModuleSection { unchecked_range, .. } => component.modules.push(unchecked_range),
                Payload::InstanceSection(section) => {
                    for instance in section {
                        component.items.push(Item::Instance(component.instances.len() as u32));
                        component.instances.push(instance?);
                    }
                }
                Payload::ComponentAliasSection(section) => {
                    for alias in section {
                        match alias? {
                            ComponentAlias::CoreInstanceExport { kind, instance_index: instance, name } => {
                                component
                                    .entities
                                    .entry(kind.into())
                                    .or_default()
                                    .push(Entity::Export { instance, name });
                            }
                            alias => component.items.push(Item::Alias(alias)),
                        }
                    }
                }
                Payload::ComponentCanonicalSection(section) => {
                    for function in section {
                        let function = function?;
                        let made = (!matches!(function, CanonicalFunction::Lift { .. })).then(|| {
                            let functions = component.entities.entry(ExportKind::Func).or_default();
                            let number = functions.len() as u32;
                            functions.push(Entity::Canonical(number));
                            number
                        });
                        component.items.push(Item::Canonical(function, made));
                    }
                }
                // Its numbers are no longer true.
                Payload::CustomSection(section) if section.name() == "component-name" => {}
                other => {
                    let (id, range) = other.as_section().context("it has a section that isn't known")?;
                    component.items.push(Item::Section(id, range));
                }
            }
        }
        Ok(component)
    }

    fn entity(&self, kind: ExportKind, index: u32) -> anyhow::Result<Entity<'a>> {
        let entities = self.entities.get(&kind);
        let found = entities.and_then(|entities| entities.get(index as usize)).context("an index means nothing")?;
        self.made_by(kind, *found)
    }

    /// What it is where it comes from: an instance may only hand on what others have.
    fn made_by(&self, kind: ExportKind, entity: Entity<'a>) -> anyhow::Result<Entity<'a>> {
        let Entity::Export { instance, name } = entity else { return Ok(entity) };
        let Instance::FromExports(exports) = self.instance(instance)? else { return Ok(entity) };
        let export = exports.iter().find(|export| export.name == name && ExportKind::from(export.kind) == kind);
        self.entity(kind, export.with_context(|| format!("there is no export `{name}`"))?.index)
    }

    fn instance(&self, index: u32) -> anyhow::Result<&Instance<'a>> {
        self.instances.get(index as usize).context("an instance isn't there")
    }

    /// What an instance is made of, by the module and the name that are imported.
    fn given(&self, instance: u32, import: &Import<'a>) -> anyhow::Result<Entity<'a>> {
        let Instance::Instantiate { args, .. } = self.instance(instance)? else { bail!("it imports nothing") };
        let arg = args.iter().find(|arg| arg.name == import.module);
        let arg = arg.with_context(|| format!("nothing is given for `{}`", import.module))?;
        let kind = match import.ty {
            TypeRef::Func(_) | TypeRef::FuncExact(_) => ExportKind::Func,
            TypeRef::Table(_) => ExportKind::Table,
            TypeRef::Memory(_) => ExportKind::Memory,
            TypeRef::Global(_) => ExportKind::Global,
            TypeRef::Tag(_) => ExportKind::Tag,
        };
        self.made_by(kind, Entity::Export { instance: arg.index, name: import.name })
    }

    fn module_of(&self, instance: u32) -> anyhow::Result<&'a [u8]> {
        let Instance::Instantiate { module_index, .. } = self.instance(instance)? else { bail!("it has no module") };
        let range = self.modules.get(*module_index as usize).context("a module isn't there")?;
        Ok(&self.bytes[range.clone()])
    }

    /// All that an instance is made of, with its kind. Of a module that is given as a whole only that it is.
    fn all_given(&self, args: &[InstantiationArg<'a>]) -> anyhow::Result<Vec<(Option<ExportKind>, Entity<'a>)>> {
        let mut given = Vec::new();
        for arg in args {
            match self.instance(arg.index)? {
                Instance::Instantiate { .. } => given.push((None, Entity::Export { instance: arg.index, name: "" })),
                Instance::FromExports(exports) => {
                    for export in exports {
                        let kind = ExportKind::from(export.kind);
                        given.push((Some(kind), self.entity(kind, export.index)?));
                    }
                }
            }
        }
        Ok(given)
    }

    /// The instances whose modules can be one: those that need nothing that is only there when others of them are.
    fn linked(&self) -> anyhow::Result<BTreeSet<u32>> {
        let needs_a_module: BTreeSet<u32> = self
            .items
            .iter()
            .filter_map(|item| match item {
                Item::Canonical(function, made) if !uses(function).is_empty() => *made,
                _ => None,
            })
            .collect();
        let (mut linked, mut later, mut filled_later) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (number, instance) in (0..).zip(&self.instances) {
            let Instance::Instantiate { args, .. } = instance else { continue };
            let given = self.all_given(args)?;
            let late = given.iter().any(|(_, entity)| match entity {
                Entity::Canonical(made) => needs_a_module.contains(made),
                Entity::Export { instance, .. } => later.contains(instance),
            });
            if !late {
                linked.insert(number);
                continue;
            }
            later.insert(number);
            for (kind, entity) in given {
                if let (Some(ExportKind::Table), Entity::Export { instance, .. }) = (kind, entity) {
                    filled_later.insert(instance);
                }
            }
        }
        // What is filled later is a second table, which not every host lets a module have.
        linked.retain(|number| !filled_later.contains(number));
        Ok(linked)
    }
}

/// What of the modules' a function that crosses their border uses.
fn uses(function: &CanonicalFunction) -> Vec<(ExportKind, u32)> {
    let options: &[CanonicalOption] = match function {
        CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. } => options,
        _ => &[],
    };
    let of_option = |option: &CanonicalOption| match option {
        CanonicalOption::Memory(memory) => Some((ExportKind::Memory, *memory)),
        CanonicalOption::Realloc(function)
        | CanonicalOption::PostReturn(function)
        | CanonicalOption::Callback(function) => Some((ExportKind::Func, *function)),
        _ => None,
    };
    let mut uses: Vec<_> = options.iter().filter_map(of_option).collect();
    if let CanonicalFunction::Lift { core_func_index, .. } = function {
        uses.push((ExportKind::Func, *core_func_index));
    }
    uses
}

/// The component that is made. What it needs of instances is named as it is needed.
struct Writer<'c, 'a> {
    component: &'c Component<'a>,
    linked: Vec<u32>,
    /// What of the linked instances is used outside of them, and what it is called from now on.
    wanted: BTreeMap<(u32, &'a str), String>,
    written: wasm_encoder::Component,
    /// How many there are of each kind so far.
    counts: HashMap<ExportKind, u32>,
    modules: u32,
    instances: u32,
    /// The instance of the linked modules, once it is there.
    whole: Option<u32>,
    /// What there is already, by what it was.
    instance_now: BTreeMap<u32, u32>,
    entity_now: HashMap<(ExportKind, Entity<'a>), u32>,
}

impl<'c, 'a> Writer<'c, 'a> {
    fn new(component: &'c Component<'a>, linked: &BTreeSet<u32>) -> anyhow::Result<Self> {
        let mut wanted = BTreeMap::new();
        let mut want = |entity| {
            if let Entity::Export { instance, name } = entity
                && linked.contains(&instance)
            {
                let place = wanted.len();
                wanted.entry((instance, name)).or_insert_with(|| format!("{place} {name}"));
            }
        };
        for item in &component.items {
            match item {
                Item::Canonical(function, _) => {
                    for (kind, index) in uses(function) {
                        want(component.entity(kind, index)?);
                    }
                }
                Item::Instance(number) if !linked.contains(number) => {
                    let Instance::Instantiate { args, .. } = component.instance(*number)? else { continue };
                    for (kind, entity) in component.all_given(args)? {
                        // What a module is given as a whole would have to have the names it had.
                        if kind.is_none() {
                            bail!("a module that isn't linked is given another as a whole");
                        }
                        want(entity);
                    }
                }
                Item::Section(..) | Item::Alias(_) | Item::Instance(_) => {}
            }
        }
        Ok(Self {
            component,
            linked: linked.iter().copied().collect(),
            wanted,
            written: wasm_encoder::Component::new(),
            counts: HashMap::new(),
            modules: 0,
            instances: 0,
            whole: None,
            instance_now: BTreeMap::new(),
            entity_now: HashMap::new(),
        })
    }

    fn write(mut self) -> anyhow::Result<Vec<u8>> {
        let component = self.component;
        for item in &component.items {
            match item {
                Item::Section(id, range) => {
                    self.written.section(&RawSection { id: *id, data: &component.bytes[range.clone()] });
                }
                Item::Alias(alias) => {
                    let mut aliases = ComponentAliasSection::new();
                    aliases.alias(self.component_alias(alias.clone()).map_err(failed)?);
                    self.written.section(&aliases);
                }
                Item::Canonical(function, made) => {
                    // What it uses is brought in front of it.
                    let mut canonical = CanonicalFunctionSection::new();
                    self.parse_component_canonical(&mut canonical, function.clone()).map_err(failed)?;
                    self.written.section(&canonical);
                    if let Some(made) = made {
                        let now = self.next(ExportKind::Func);
                        self.entity_now.insert((ExportKind::Func, Entity::Canonical(*made)), now);
                    }
                }
                Item::Instance(number) if !self.linked.contains(number) => {
                    if let Instance::Instantiate { args, .. } = component.instance(*number)? {
                        let mut given = Vec::new();
                        for arg in args {
                            given.push((arg.name, self.handed_on(arg.index)?));
                        }
                        let now = self.instantiate(component.module_of(*number)?, &given);
                        self.instance_now.insert(*number, now);
                    }
                }
                Item::Instance(_) => {}
            }
        }
        Ok(self.written.finish())
    }

    fn next(&mut self, kind: ExportKind) -> u32 {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        *count - 1
    }

    fn instantiate(&mut self, module: &[u8], args: &[(&str, u32)]) -> u32 {
        self.written.section(&RawSection { id: ComponentSectionId::CoreModule.into(), data: module });
        let mut instance = InstanceSection::new();
        instance.instantiate(self.modules, args.iter().map(|(name, arg)| (*name, ModuleArg::Instance(*arg))));
        self.written.section(&instance);
        self.modules += 1;
        self.instances += 1;
        self.instances - 1
    }

    fn export(&mut self, exports: &[(&str, ExportKind, u32)]) -> u32 {
        let mut instance = InstanceSection::new();
        instance.export_items(exports.iter().copied());
        self.written.section(&instance);
        self.instances += 1;
        self.instances - 1
    }

    /// An instance that hands on what others have.
    fn handed_on(&mut self, instance: u32) -> anyhow::Result<u32> {
        if let Some(now) = self.instance_now.get(&instance) {
            return Ok(*now);
        }
        let component = self.component;
        let Instance::FromExports(exports) = component.instance(instance)? else {
            bail!("a module that isn't linked is given another as a whole");
        };
        let mut now = Vec::new();
        for export in exports {
            let entity = component.entity(export.kind.into(), export.index)?;
            let kind = ExportKind::from(export.kind);
            now.push((export.name, kind, self.now(kind, entity)?));
        }
        let now = self.export(&now);
        self.instance_now.insert(instance, now);
        Ok(now)
    }

    /// The index something has in what is written.
    fn now(&mut self, kind: ExportKind, entity: Entity<'a>) -> anyhow::Result<u32> {
        if let Some(now) = self.entity_now.get(&(kind, entity)) {
            return Ok(*now);
        }
        let Entity::Export { instance, name } = entity else { bail!("a function is used before it is there") };
        let (instance, name) = match self.wanted.get(&(instance, name)) {
            Some(name) => {
                let name = name.clone();
                (self.whole()?, name)
            }
            None => {
                let now = self.instance_now.get(&instance);
                (*now.context("an instance is used before it is there")?, name.to_owned())
            }
        };
        let mut alias = ComponentAliasSection::new();
        alias.alias(Alias::CoreInstanceExport { instance, kind, name: &name });
        self.written.section(&alias);
        let now = self.next(kind);
        self.entity_now.insert((kind, entity), now);
        Ok(now)
    }

    /// The instance of the linked modules. It is made when it is first used.
    fn whole(&mut self) -> anyhow::Result<u32> {
        if let Some(whole) = self.whole {
            return Ok(whole);
        }
        let (component, linked) = (self.component, &self.linked);
        let part = |instance| linked.iter().position(|other| *other == instance);
        let modules =
            linked.iter().map(|instance| component.module_of(*instance)).collect::<anyhow::Result<Vec<_>>>()?;
        let wanted: Vec<_> = self
            .wanted
            .iter()
            .map(|((instance, export), name)| Wanted {
                part: part(*instance).expect("only what is linked is wanted"),
                export,
                name: name.clone(),
            })
            .collect();
        let merged = merge(
            &modules,
            |number, import| {
                let entity = component.given(linked[number], import)?;
                Ok(match entity {
                    Entity::Export { instance, name } => match part(instance) {
                        Some(part) => Source::Part(part, name),
                        None => Source::Outside(entity),
                    },
                    Entity::Canonical(_) => Source::Outside(entity),
                })
            },
            &wanted,
        )?;
        let mut outside = Vec::new();
        for (name, entity) in &merged.imports {
            outside.push((name.as_str(), ExportKind::Func, self.now(ExportKind::Func, *entity)?));
        }
        let outside = self.export(&outside);
        let whole = self.instantiate(&merged.module, &[(OUTSIDE, outside)]);
        self.whole = Some(whole);
        Ok(whole)
    }

    fn index(&mut self, kind: ExportKind, index: u32) -> Result<u32, Error<anyhow::Error>> {
        let entity = self.component.entity(kind, index).map_err(Error::UserError)?;
        self.now(kind, entity).map_err(Error::UserError)
    }
}

fn failed(error: Error<anyhow::Error>) -> anyhow::Error {
    match error {
        Error::UserError(error) => error,
        other => anyhow::anyhow!("{other}"),
    }
}

impl Reencode for Writer<'_, '_> {
    type Error = anyhow::Error;

    fn function_index(&mut self, function: u32) -> Result<u32, Error<anyhow::Error>> {
        self.index(ExportKind::Func, function)
    }

    fn memory_index(&mut self, memory: u32) -> Result<u32, Error<anyhow::Error>> {
        self.index(ExportKind::Memory, memory)
    }

    fn table_index(&mut self, table: u32) -> Result<u32, Error<anyhow::Error>> {
        self.index(ExportKind::Table, table)
    }
}

impl ReencodeComponent for Writer<'_, '_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmparser::{Operator, Validator, WasmFeatures};

    /// A program of two libraries: one has the memory, the table and a place in both; the other is called by it and calls it.
    /// What it imports from outside needs its memory, so it comes through a shim that is filled afterwards.
    const LIBRARIES: &str = r#"
        (component
            (import "say" (func $say (param "text" string)))
            (core module $shim
                (type $say (func (param i32 i32)))
                (table (export "table") 1 funcref)
                (func (export "say") (param i32 i32) local.get 0 local.get 1 i32.const 0 call_indirect (type $say)))
            (core module $fixup
                (import "" "table" (table 1 funcref))
                (import "" "say" (func $say (param i32 i32)))
                (elem (i32.const 0) func $say))
            (core module $base
                (memory (export "memory") 1)
                (table (export "table") 8 funcref)
                (global (export "memory_base") i32 i32.const 1024)
                (global (export "table_base") i32 i32.const 3)
                (global (export "stack") (mut i32) i32.const 4096)
                (global (export "unwritten") (mut i32) i32.const 77)
                (func (export "twice") (param i32) (result i32) local.get 0 i32.const 2 i32.mul)
                (func (export "unused") (param i32) (result i32) local.get 0))
            (core module $library
                (import "env" "memory" (memory 1))
                (import "env" "table" (table 8 funcref))
                (import "env" "memory_base" (global $memory_base i32))
                (import "env" "table_base" (global $table_base i32))
                (import "env" "stack" (global $stack (mut i32)))
                (import "env" "unwritten" (global $unwritten (mut i32)))
                (import "env" "twice" (func $twice (param i32) (result i32)))
                (import "outside" "say" (func $say (param i32 i32)))
                (global $place i32 (i32.add (global.get $memory_base) (i32.const 16)))
                (elem (global.get $table_base) func $answer)
                (data (global.get $memory_base) "hello")
                (func $answer (export "answer") (result i32)
                    (global.set $stack (i32.sub (global.get $stack) (i32.const 16)))
                    (call $say (global.get $memory_base) (i32.const 5))
                    (i32.add (call $twice (global.get $unwritten)) (i32.add (global.get $place) (global.get $stack))))
                (func (export "writes") (global.set $unwritten (i32.const 1))))
            (core instance $shim (instantiate $shim))
            (core instance $base (instantiate $base))
            (core instance $env (export "memory" (memory $base "memory")) (export "table" (table $base "table"))
                (export "memory_base" (global $base "memory_base")) (export "table_base" (global $base "table_base"))
                (export "stack" (global $base "stack")) (export "unwritten" (global $base "unwritten"))
                (export "twice" (func $base "twice")))
            (core instance $outside (export "say" (func $shim "say")))
            (core instance $library (instantiate $library (with "env" (instance $env)) (with "outside" (instance $outside))))
            (core func $lowered (canon lower (func $say) (memory $base "memory")))
            (core instance $arguments (export "table" (table $shim "table")) (export "say" (func $lowered)))
            (core instance $fixup (instantiate $fixup (with "" (instance $arguments))))
            (func (export "answer") (result u32) (canon lift (core func $library "answer"))))
    "#;

    struct Found {
        modules: usize,
        functions: usize,
        globals_got: usize,
        globals_set: usize,
        /// Of one module.
        most_tables: u32,
    }

    fn look(component: &[u8]) -> Found {
        Validator::new_with_features(WasmFeatures::all()).validate_all(component).unwrap();
        let mut found = Found { modules: 0, functions: 0, globals_got: 0, globals_set: 0, most_tables: 0 };
        for payload in Parser::new(0).parse_all(component) {
            match payload.unwrap() {
                Payload::ModuleSection { .. } => found.modules += 1,
                Payload::TableSection(tables) => found.most_tables = found.most_tables.max(tables.count()),
                Payload::CodeSectionEntry(body) => {
                    found.functions += 1;
                    for operator in body.get_operators_reader().unwrap() {
                        match operator.unwrap() {
                            Operator::GlobalGet { .. } => found.globals_got += 1,
                            Operator::GlobalSet { .. } => found.globals_set += 1,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }

    #[test]
    fn libraries_become_one_module() {
        let libraries = wat::parse_str(LIBRARIES).unwrap();
        let before = look(&libraries);
        assert_eq!((before.modules, before.functions), (4, 5));
        let linked = link(&libraries).unwrap();
        let after = look(&linked);
        // The two libraries are one now. The shim stays, and so does what fills it.
        assert_eq!((after.modules, after.most_tables), (3, 1));
        // `unused` and `writes` are gone, so that `unwritten` is a number. The stack's pointer is the only global that is left.
        assert_eq!((after.functions, after.globals_got, after.globals_set), (3, 2, 1));
        assert_eq!(link(&libraries).unwrap(), linked);
    }

    #[test]
    fn what_is_one_module_already_stays_as_it_is() {
        let linked = link(&wat::parse_str(LIBRARIES).unwrap()).unwrap();
        let one = wat::parse_str(
            r#"(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
                (func (export "f") (canon lift (core func $i "f"))))"#,
        );
        let one = one.unwrap();
        assert_eq!(link(&one).unwrap(), one);
        assert_eq!(link(&linked).unwrap(), linked);
    }

    #[test]
    fn what_cannot_be_linked_says_why() {
        let start = LIBRARIES.replace("(func (export \"writes\")", "(start $begin) (func $begin (export \"writes\")");
        let error = link(&wat::parse_str(start).unwrap()).unwrap_err();
        assert!(format!("{error:#}").contains("start function"), "{error:#}");
        assert!(link(b"\0asm").is_err());
    }
}
