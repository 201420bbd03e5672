//! Several core modules become one, as a linker makes a program of objects: what one imports of another is meant directly,
//! what nobody reaches is left out, and a global that nobody writes is the number it holds.

use super::failed;
use anyhow::{Context as _, bail};
use std::collections::{BTreeSet, HashMap, HashSet};
use wasm_encoder::{
    CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, EntityType, ExportKind, ExportSection,
    FunctionSection, GlobalSection, ImportSection, Instruction, MemorySection, Module, NameMap, NameSection,
    TableSection, TypeSection,
    reencode::{Error, Reencode, utils},
};
use wasmparser::{
    Data, Element, ElementItems, ExternalKind, FuncType, FunctionBody, Global, Import, MemoryType, Name,
    NameSectionReader, Operator, Parser, Payload, Table, TableInit, TypeRef,
};

/// What an import of a part is.
#[derive(Clone, Copy)]
pub(super) enum Source<'a, O> {
    /// An export of another part.
    Part(usize, &'a str),
    /// Something that is none of the parts'.
    Outside(O),
}

/// An export of the whole.
pub(super) struct Wanted<'a> {
    pub(super) part: usize,
    pub(super) export: &'a str,
    /// What it is called from now on.
    pub(super) name: String,
}

pub(super) struct Merged<O> {
    pub(super) module: Vec<u8>,
    /// What is left to import, by name; all of it functions. The module they are imported from is [`OUTSIDE`].
    pub(super) imports: Vec<(String, O)>,
}

pub(super) const OUTSIDE: &str = "outside";

/// Makes one module of these. `source` says what a part's import is, by its module and name.
pub(super) fn merge<'a, O: Copy + PartialEq>(
    modules: &[&'a [u8]],
    source: impl Fn(usize, &Import<'a>) -> anyhow::Result<Source<'a, O>>,
    wanted: &[Wanted<'_>],
) -> anyhow::Result<Merged<O>> {
    let parts = modules.iter().map(|module| Part::read(module)).collect::<anyhow::Result<Vec<_>>>()?;
    let linked = Linked::new(parts, source)?;
    let reached = linked.reach(wanted)?;
    Whole::new(linked, reached).write(wanted)
}

/// One of the modules.
#[derive(Default)]
struct Part<'a> {
    types: Vec<FuncType>,
    imports: Vec<Import<'a>>,
    functions: Space<Function<'a>>,
    tables: Space<Table<'a>>,
    memories: Space<MemoryType>,
    globals: Space<Global<'a>>,
    exports: HashMap<&'a str, (ExternalKind, u32)>,
    elements: Vec<Element<'a>>,
    data: Vec<Data<'a>>,
    names: HashMap<u32, &'a str>,
}

struct Function<'a> {
    ty: u32,
    body: FunctionBody<'a>,
}

/// What a module has of one kind: what is imported comes first. `imported` are indices of its imports.
struct Space<T> {
    imported: Vec<usize>,
    own: Vec<T>,
}

impl<T> Default for Space<T> {
    fn default() -> Self {
        Self { imported: Vec::new(), own: Vec::new() }
    }
}

impl<T> Space<T> {
    /// The import with this index, or which of the module's own it is.
    fn at(&self, index: u32) -> Result<usize, usize> {
        let index = index as usize;
        self.imported.get(index).copied().ok_or_else(|| index - self.imported.len())
    }
}

impl<'a> Part<'a> {
    fn read(module: &'a [u8]) -> anyhow::Result<Self> {
        let mut part = Self::default();
        let mut types_of_functions = Vec::new();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(section) => {
                    for ty in section.into_iter_err_on_gc_types() {
                        part.types.push(ty?);
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        let imported = match import.ty {
                            TypeRef::Func(_) => &mut part.functions.imported,
                            TypeRef::Table(_) => &mut part.tables.imported,
                            TypeRef::Memory(_) => &mut part.memories.imported,
                            TypeRef::Global(_) => &mut part.globals.imported,
                            TypeRef::Tag(_) | TypeRef::FuncExact(_) => {
                                bail!("it imports `{}`, of a kind that isn't linked", import.name)
                            }
                        };
                        imported.push(part.imports.len());
                        part.imports.push(import);
                    }
                }
                Payload::FunctionSection(section) => {
                    types_of_functions = section.into_iter().collect::<Result<Vec<_>, _>>()?;
                }
                Payload::TableSection(section) => part.tables.own = section.into_iter().collect::<Result<_, _>>()?,
                Payload::MemorySection(section) => part.memories.own = section.into_iter().collect::<Result<_, _>>()?,
                Payload::GlobalSection(section) => part.globals.own = section.into_iter().collect::<Result<_, _>>()?,
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        part.exports.insert(export.name, (export.kind, export.index));
                    }
                }
                Payload::ElementSection(section) => part.elements = section.into_iter().collect::<Result<_, _>>()?,
                Payload::DataSection(section) => part.data = section.into_iter().collect::<Result<_, _>>()?,
                Payload::CodeSectionEntry(body) => {
                    let ty = *types_of_functions.get(part.functions.own.len()).context("it has a body too many")?;
                    part.functions.own.push(Function { ty, body });
                }
                Payload::CustomSection(section) => {
                    if let wasmparser::KnownCustom::Name(names) = section.as_known() {
                        part.names = names_of_functions(names);
                    }
                }
                // Where several begin with something, the order of it would have to be kept.
                Payload::StartSection { .. } => bail!("it has a start function, which isn't linked"),
                Payload::TagSection(_) => bail!("it has exceptions of its own, which aren't linked"),
                _ => {}
            }
        }
        Ok(part)
    }

    fn ty(&self, index: u32) -> anyhow::Result<&FuncType> {
        self.types.get(index as usize).context("it names a type it doesn't have")
    }
}

/// Names are for who reads a backtrace: what can't be read of them is left out.
fn names_of_functions(section: NameSectionReader<'_>) -> HashMap<u32, &str> {
    let mut names = HashMap::new();
    for name in section.into_iter().flatten() {
        if let Name::Function(map) = name {
            names.extend(map.into_iter().flatten().map(|naming| (naming.index, naming.name)));
        }
    }
    names
}

/// Something a part has itself: the part, and which one of its kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Id {
    part: usize,
    own: usize,
}

/// What an index of a part means.
#[derive(Clone, Copy)]
enum Meaning {
    Own(Id),
    /// The number among what comes from outside.
    Outside(usize),
}

/// The parts, and what is what among them.
struct Linked<'a, O> {
    parts: Vec<Part<'a>>,
    /// By part and import.
    sources: Vec<Vec<Source<'a, usize>>>,
    outside: Vec<(O, Import<'a>, FuncType)>,
}

impl<'a, O: Copy + PartialEq> Linked<'a, O> {
    fn new(
        parts: Vec<Part<'a>>,
        source: impl Fn(usize, &Import<'a>) -> anyhow::Result<Source<'a, O>>,
    ) -> anyhow::Result<Self> {
        let mut outside: Vec<(O, Import<'a>, FuncType)> = Vec::new();
        let mut sources = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            let mut of_part = Vec::new();
            for import in &part.imports {
                of_part.push(match source(number, import)? {
                    Source::Part(other, export) => Source::Part(other, export),
                    Source::Outside(what) => {
                        Source::Outside(match outside.iter().position(|(other, ..)| *other == what) {
                            Some(known) => known,
                            None => {
                                let TypeRef::Func(ty) = import.ty else {
                                    bail!("`{}` comes from outside and is no function", import.name)
                                };
                                outside.push((what, *import, part.ty(ty)?.clone()));
                                outside.len() - 1
                            }
                        })
                    }
                });
            }
            sources.push(of_part);
        }
        Ok(Self { parts, sources, outside })
    }

    fn means<T>(
        &self,
        space: for<'p> fn(&'p Part<'a>) -> &'p Space<T>,
        part: usize,
        index: u32,
    ) -> anyhow::Result<Meaning> {
        let (mut part, mut index) = (part, index);
        // Each step goes to a part that was there before, so there is an end to it.
        loop {
            match space(&self.parts[part]).at(index) {
                Err(own) => return Ok(Meaning::Own(Id { part, own })),
                Ok(import) => match self.sources[part][import] {
                    Source::Outside(number) => return Ok(Meaning::Outside(number)),
                    Source::Part(other, export) => {
                        let found = self.parts[other].exports.get(export);
                        (part, index) = (other, found.with_context(|| format!("nobody exports `{export}`"))?.1);
                    }
                },
            }
        }
    }

    fn function(&self, part: usize, index: u32) -> anyhow::Result<Meaning> {
        self.means(|part| &part.functions, part, index)
    }

    fn global(&self, part: usize, index: u32) -> anyhow::Result<Id> {
        own(self.means(|part| &part.globals, part, index)?)
    }

    /// Finds what can be reached from the exports and the tables.
    fn reach(&self, wanted: &[Wanted<'_>]) -> anyhow::Result<Reached> {
        let mut reached = Reached::default();
        for Wanted { part, export, .. } in wanted {
            let (kind, index) = *self.parts[*part].exports.get(export).context("an export isn't there")?;
            match kind {
                ExternalKind::Func => reached.function(self.function(*part, index)?),
                ExternalKind::Global => _ = reached.shown.insert(self.global(*part, index)?),
                _ => {}
            }
        }
        for (number, part) in self.parts.iter().enumerate() {
            for element in &part.elements {
                match element.items.clone() {
                    ElementItems::Functions(functions) => {
                        for function in functions {
                            reached.function(self.function(number, function?)?);
                        }
                    }
                    ElementItems::Expressions(_, expressions) => {
                        for expression in expressions {
                            self.look(number, expression?.get_operators_reader(), &mut reached)?;
                        }
                    }
                }
            }
            for global in &part.globals.own {
                self.look(number, global.init_expr.get_operators_reader(), &mut reached)?;
            }
        }
        while let Some(Id { part, own }) = reached.to_look_at.pop() {
            self.look(part, self.parts[part].functions.own[own].body.get_operators_reader()?, &mut reached)?;
        }
        Ok(reached)
    }

    fn look(
        &self,
        part: usize,
        mut code: wasmparser::OperatorsReader<'_>,
        reached: &mut Reached,
    ) -> anyhow::Result<()> {
        while !code.is_end_then_eof() {
            match code.read()? {
                Operator::Call { function_index }
                | Operator::ReturnCall { function_index }
                | Operator::RefFunc { function_index } => reached.function(self.function(part, function_index)?),
                Operator::GlobalSet { global_index } => _ = reached.written.insert(self.global(part, global_index)?),
                _ => {}
            }
        }
        Ok(())
    }
}

fn own(meaning: Meaning) -> anyhow::Result<Id> {
    match meaning {
        Meaning::Own(id) => Ok(id),
        Meaning::Outside(_) => bail!("it comes from outside and is no function"),
    }
}

#[derive(Default)]
struct Reached {
    functions: BTreeSet<Id>,
    outside: BTreeSet<usize>,
    to_look_at: Vec<Id>,
    /// Globals that some function writes, or somebody outside sees.
    written: HashSet<Id>,
    shown: HashSet<Id>,
}

impl Reached {
    fn function(&mut self, meaning: Meaning) {
        match meaning {
            Meaning::Outside(number) => _ = self.outside.insert(number),
            Meaning::Own(id) => {
                if self.functions.insert(id) {
                    self.to_look_at.push(id);
                }
            }
        }
    }
}

/// The module that is made.
struct Whole<'a, O> {
    linked: Linked<'a, O>,
    reached: Reached,
    functions: HashMap<Id, u32>,
    outside: HashMap<usize, u32>,
    tables: HashMap<Id, u32>,
    memories: HashMap<Id, u32>,
    /// The first element and piece of data of each part.
    elements: Vec<u32>,
    data: Vec<u32>,
    /// Those that were asked for so far.
    types: Vec<FuncType>,
    number_of_type: HashMap<FuncType, u32>,
    globals: Vec<Id>,
    number_of_global: HashMap<Id, u32>,
}

impl<'a, O: Copy + PartialEq> Whole<'a, O> {
    fn new(linked: Linked<'a, O>, reached: Reached) -> Self {
        let outside: HashMap<usize, u32> = reached.outside.iter().copied().zip(0..).collect();
        let functions = reached.functions.iter().copied().zip(outside.len() as u32..).collect();
        let all = |count: fn(&Part<'a>) -> usize| {
            let ids = linked.parts.iter().enumerate();
            let ids = ids.flat_map(move |(part, of)| (0..count(of)).map(move |own| Id { part, own }));
            ids.zip(0..).collect()
        };
        let starts = |count: fn(&Part<'a>) -> usize| {
            let mut next = 0;
            let mut start = |part| {
                next += count(part) as u32;
                next - count(part) as u32
            };
            linked.parts.iter().map(&mut start).collect()
        };
        Self {
            tables: all(|part| part.tables.own.len()),
            memories: all(|part| part.memories.own.len()),
            elements: starts(|part| part.elements.len()),
            data: starts(|part| part.data.len()),
            linked,
            reached,
            functions,
            outside,
            types: Vec::new(),
            number_of_type: HashMap::new(),
            globals: Vec::new(),
            number_of_global: HashMap::new(),
        }
    }

    fn ty(&mut self, ty: &FuncType) -> u32 {
        if let Some(known) = self.number_of_type.get(ty) {
            return *known;
        }
        let number = self.types.len() as u32;
        self.types.push(ty.clone());
        self.number_of_type.insert(ty.clone(), number);
        number
    }

    fn function(&self, part: usize, index: u32) -> anyhow::Result<u32> {
        let number = match self.linked.function(part, index)? {
            Meaning::Own(id) => self.functions.get(&id),
            Meaning::Outside(number) => self.outside.get(&number),
        };
        number.copied().context("a function is used that wasn't found")
    }

    fn global(&mut self, id: Id) -> u32 {
        let globals = &mut self.globals;
        *self.number_of_global.entry(id).or_insert_with(|| {
            globals.push(id);
            globals.len() as u32 - 1
        })
    }

    /// The number a global holds for good.
    fn held(&self, id: Id) -> anyhow::Result<Option<Instruction<'static>>> {
        if self.reached.written.contains(&id) || self.reached.shown.contains(&id) {
            return Ok(None);
        }
        let mut init = self.linked.parts[id.part].globals.own[id.own].init_expr.get_operators_reader();
        let mut held = Vec::new();
        while !init.is_end_then_eof() {
            let next = match (init.read()?, held.as_slice()) {
                (Operator::I32Const { value }, _) => Some(Instruction::I32Const(value)),
                (Operator::I64Const { value }, _) => Some(Instruction::I64Const(value)),
                (Operator::GlobalGet { global_index }, _) => self.held(self.linked.global(id.part, global_index)?)?,
                // A place in a library.
                (Operator::I32Add, [.., Instruction::I32Const(base), Instruction::I32Const(offset)]) => {
                    let sum = base.wrapping_add(*offset);
                    held.truncate(held.len() - 2);
                    Some(Instruction::I32Const(sum))
                }
                _ => None,
            };
            let Some(next) = next else { return Ok(None) };
            held.push(next);
        }
        Ok(held.pop())
    }

    fn write(mut self, wanted: &[Wanted<'_>]) -> anyhow::Result<Merged<O>> {
        // What is asked for in the last of them counts for the first: types and globals.
        let (mut functions, mut code, mut names) = (FunctionSection::new(), CodeSection::new(), NameMap::new());
        let (mut import_section, mut imports) = (ImportSection::new(), Vec::new());
        for (place, number) in self.reached.outside.clone().into_iter().enumerate() {
            let (what, import, ty) = self.linked.outside[number].clone();
            let name = format!("{place} {} {}", import.module, import.name);
            import_section.import(OUTSIDE, &name, EntityType::Function(self.ty(&ty)));
            imports.push((name, what));
        }
        for (place, Id { part, own }) in self.reached.functions.clone().into_iter().enumerate() {
            let of = &self.linked.parts[part];
            let (ty, body) = (of.functions.own[own].ty, of.functions.own[own].body.clone());
            if let Some(name) = of.names.get(&((of.functions.imported.len() + own) as u32)) {
                names.append((imports.len() + place) as u32, name);
            }
            let ty = of.ty(ty)?.clone();
            functions.function(self.ty(&ty));
            self.of(part).parse_function_body(&mut code, body).map_err(failed)?;
        }
        let (mut tables, mut memories) = (TableSection::new(), MemorySection::new());
        let (mut elements, mut data, mut pieces) = (ElementSection::new(), DataSection::new(), 0);
        for part in 0..self.linked.parts.len() {
            for table in std::mem::take(&mut self.linked.parts[part].tables.own) {
                if let TableInit::Expr(_) = table.init {
                    bail!("it has a table that doesn't begin empty, which isn't linked");
                }
                tables.table(self.of(part).table_type(table.ty).map_err(failed)?);
            }
            for memory in self.linked.parts[part].memories.own.clone() {
                memories.memory(self.of(part).memory_type(memory).map_err(failed)?);
            }
            for element in std::mem::take(&mut self.linked.parts[part].elements) {
                self.of(part).parse_element(&mut elements, element).map_err(failed)?;
            }
            for piece in std::mem::take(&mut self.linked.parts[part].data) {
                self.of(part).parse_data(&mut data, piece).map_err(failed)?;
                pieces += 1;
            }
        }
        let mut exports = ExportSection::new();
        for Wanted { part, export, name } in wanted {
            let (kind, index) = self.linked.parts[*part].exports[export];
            let mut of = self.of(*part);
            let index = of.external_index(kind, index).map_err(failed)?;
            exports.export(name, ExportKind::from(kind), index);
        }
        let mut globals = GlobalSection::new();
        let mut place = 0;
        // What one of them begins with may be another.
        while let Some(Id { part, own }) = self.globals.get(place).copied() {
            let (ty, init) = {
                let global = &self.linked.parts[part].globals.own[own];
                (global.ty, global.init_expr.clone())
            };
            let mut of = self.of(part);
            let (ty, init): (_, ConstExpr) =
                (of.global_type(ty).map_err(failed)?, of.const_expr(init).map_err(failed)?);
            globals.global(ty, &init);
            place += 1;
        }
        let mut types = TypeSection::new();
        for ty in self.types.clone() {
            types.ty().func_type(&self.of(0).func_type(ty).map_err(failed)?);
        }
        let mut name_section = NameSection::new();
        name_section.functions(&names);
        let mut module = Module::new();
        module.section(&types).section(&import_section).section(&functions).section(&tables).section(&memories);
        module.section(&globals).section(&exports).section(&elements).section(&DataCountSection { count: pieces });
        module.section(&code).section(&data).section(&name_section);
        Ok(Merged { module: module.finish(), imports })
    }

    /// Writes what a part has in the numbers of the whole.
    fn of(&mut self, part: usize) -> Renumbered<'_, 'a, O> {
        Renumbered { whole: self, part }
    }
}

struct Renumbered<'w, 'a, O> {
    whole: &'w mut Whole<'a, O>,
    part: usize,
}

impl<O: Copy + PartialEq> Reencode for Renumbered<'_, '_, O> {
    type Error = anyhow::Error;

    fn type_index(&mut self, ty: u32) -> Result<u32, Error<anyhow::Error>> {
        let ty = self.whole.linked.parts[self.part].ty(ty).map_err(Error::UserError)?.clone();
        Ok(self.whole.ty(&ty))
    }

    fn function_index(&mut self, function: u32) -> Result<u32, Error<anyhow::Error>> {
        self.whole.function(self.part, function).map_err(Error::UserError)
    }

    fn table_index(&mut self, table: u32) -> Result<u32, Error<anyhow::Error>> {
        let found = self.whole.linked.means(|part| &part.tables, self.part, table).and_then(own);
        Ok(self.whole.tables[&found.map_err(Error::UserError)?])
    }

    fn memory_index(&mut self, memory: u32) -> Result<u32, Error<anyhow::Error>> {
        let found = self.whole.linked.means(|part| &part.memories, self.part, memory).and_then(own);
        Ok(self.whole.memories[&found.map_err(Error::UserError)?])
    }

    fn global_index(&mut self, global: u32) -> Result<u32, Error<anyhow::Error>> {
        let id = self.whole.linked.global(self.part, global).map_err(Error::UserError)?;
        Ok(self.whole.global(id))
    }

    fn element_index(&mut self, element: u32) -> Result<u32, Error<anyhow::Error>> {
        Ok(self.whole.elements[self.part] + element)
    }

    fn data_index(&mut self, data: u32) -> Result<u32, Error<anyhow::Error>> {
        Ok(self.whole.data[self.part] + data)
    }

    fn instruction<'i>(&mut self, operator: Operator<'i>) -> Result<Instruction<'i>, Error<anyhow::Error>> {
        if let Operator::GlobalGet { global_index } = operator {
            let held = self.whole.linked.global(self.part, global_index).and_then(|id| self.whole.held(id));
            if let Some(held) = held.map_err(Error::UserError)? {
                return Ok(held);
            }
        }
        utils::instruction(self, operator)
    }
}
