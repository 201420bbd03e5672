//! Calls by a table become calls: `call_indirect` is a call of a function that jumps to the one that is meant.
//!
//! Go's compiler puts each function into a table, by which it calls closures, methods of interfaces, and where a goroutine goes
//! on. A host must be ready to be handed any function that is in a table, so the runtime compiles an entry for each, and fills the
//! table in each sandbox. A jump is part of the code.

use anyhow::Context as _;
use std::ops::Range;
use wasm_encoder::{
    BlockType, CodeSection, CustomSection, Encode as _, Function, FunctionSection, Instruction, Module, NameMap,
    NameSection, RawSection, TypeSection, ValType,
    reencode::{Reencode as _, RoundtripReencoder},
};
use wasmparser::{
    ElementItems, ElementKind, ExternalKind, FuncType, KnownCustom, Name, NameSectionReader, Operator, Parser, Payload,
    TypeRef,
};

/// Makes a module without a table of one with one. Nothing if it does with its table what a jump can't.
pub(super) fn without_table(module: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
    Ok(match Jump::read(module)? {
        Some(jump) => Some(jump.write(module)?),
        None => None,
    })
}

/// The function that is called in place of the table.
struct Jump {
    /// The type of what is called, and how many types there are.
    ty: FuncType,
    types: u32,
    functions: u32,
    /// Where in the module it is called.
    calls: Vec<Range<usize>>,
    /// The first place in the table that is taken, and what is there and behind it. Nothing where it is of another type.
    first: i32,
    targets: Vec<Option<u32>>,
}

impl Jump {
    /// What backtraces call it.
    const NAME: &str = "call_indirect";

    fn read(module: &[u8]) -> anyhow::Result<Option<Self>> {
        let (mut types, mut functions, mut calls) = (Vec::new(), Vec::new(), Vec::new());
        let (mut tables, mut called, mut elements) = (0, None, None);
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(section) => {
                    types = section.into_iter_err_on_gc_types().collect::<Result<_, _>>()?;
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        match import?.ty {
                            TypeRef::Func(ty) => functions.push(ty),
                            TypeRef::Table(_) => return Ok(None),
                            _ => {}
                        }
                    }
                }
                Payload::FunctionSection(section) => {
                    for ty in section {
                        functions.push(ty?);
                    }
                }
                Payload::TableSection(section) => tables = section.count(),
                Payload::ExportSection(section) => {
                    for export in section {
                        if export?.kind == ExternalKind::Table {
                            return Ok(None);
                        }
                    }
                }
                Payload::ElementSection(section) => {
                    let mut section = section.into_iter();
                    let (Some(element), None) = (section.next(), section.next()) else { return Ok(None) };
                    let element = element?;
                    let (ElementKind::Active { offset_expr, .. }, ElementItems::Functions(items)) =
                        (element.kind, element.items)
                    else {
                        return Ok(None);
                    };
                    let Operator::I32Const { value } = offset_expr.get_operators_reader().read()? else {
                        return Ok(None);
                    };
                    elements = Some((value, items.into_iter().collect::<Result<Vec<_>, _>>()?));
                }
                Payload::CodeSectionEntry(body) => {
                    let mut code = body.get_operators_reader()?;
                    while !code.eof() {
                        let at = code.original_position();
                        match code.read()? {
                            Operator::CallIndirect { type_index, table_index: 0 }
                                if called.is_none_or(|called| called == type_index) =>
                            {
                                called = Some(type_index);
                                calls.push(at..code.original_position());
                            }
                            Operator::CallIndirect { .. }
                            | Operator::ReturnCallIndirect { .. }
                            | Operator::RefFunc { .. }
                            | Operator::TableGet { .. }
                            | Operator::TableSet { .. }
                            | Operator::TableGrow { .. }
                            | Operator::TableSize { .. }
                            | Operator::TableFill { .. }
                            | Operator::TableCopy { .. }
                            | Operator::TableInit { .. } => return Ok(None),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        let (1, Some(called), Some((first, items))) = (tables, called, elements) else { return Ok(None) };
        let of_type = |function: &u32| functions.get(*function as usize) == Some(&called);
        Ok(Some(Self {
            ty: types.get(called as usize).cloned().context("a type isn't there")?,
            types: u32::try_from(types.len())?,
            functions: u32::try_from(functions.len())?,
            calls,
            first,
            targets: items.into_iter().map(|function| Some(function).filter(of_type)).collect(),
        }))
    }

    /// Everything stays as it is, but for the calls and what is added to types, functions and names.
    fn write(&self, module: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut written = Module::new();
        let (mut code, mut bodies) = (CodeSection::new(), 0);
        let mut calls = self.calls.as_slice();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(section) => {
                    let mut types = TypeSection::new();
                    RoundtripReencoder.parse_type_section(&mut types, section)?;
                    let ty = RoundtripReencoder.func_type(self.ty.clone())?;
                    let parameters: Vec<_> = ty.params().iter().copied().chain([ValType::I32]).collect();
                    types.ty().function(parameters, ty.results().iter().copied());
                    written.section(&types);
                }
                Payload::FunctionSection(section) => {
                    let mut functions = FunctionSection::new();
                    RoundtripReencoder.parse_function_section(&mut functions, section)?;
                    functions.function(self.types);
                    written.section(&functions);
                }
                Payload::TableSection(_) | Payload::ElementSection(_) => {}
                Payload::CodeSectionStart { count, .. } => bodies = count,
                Payload::CodeSectionEntry(body) => {
                    let (mut bytes, mut copied, end) = (Vec::new(), body.range().start, body.range().end);
                    let here;
                    (here, calls) = calls.split_at(calls.partition_point(|call| call.start < end));
                    for call in here {
                        bytes.extend_from_slice(&module[copied..call.start]);
                        Instruction::Call(self.functions).encode(&mut bytes);
                        copied = call.end;
                    }
                    bytes.extend_from_slice(&module[copied..end]);
                    code.raw(&bytes);
                    if code.len() == bodies {
                        code.function(&self.body());
                        written.section(&code);
                    }
                }
                Payload::CustomSection(section) => match section.as_known() {
                    KnownCustom::Name(names) => _ = written.section(&self.names(names)?),
                    _ => {
                        let (name, data) = (section.name().into(), section.data().into());
                        written.section(&CustomSection { name, data });
                    }
                },
                other => {
                    if let Some((id, range)) = other.as_section() {
                        written.section(&RawSection { id, data: &module[range] });
                    }
                }
            }
        }
        Ok(written.finish())
    }

    fn names(&self, section: NameSectionReader<'_>) -> anyhow::Result<NameSection> {
        let mut names = NameSection::new();
        for kind in section {
            match kind? {
                Name::Function(map) => {
                    let mut functions = NameMap::new();
                    for naming in map {
                        let naming = naming?;
                        functions.append(naming.index, naming.name);
                    }
                    functions.append(self.functions, Self::NAME);
                    names.functions(&functions);
                }
                other => RoundtripReencoder.parse_custom_name_subsection(&mut names, other)?,
            }
        }
        Ok(names)
    }

    /// In the innermost of as many blocks as there are functions it is decided behind which one it goes on.
    fn body(&self) -> Function {
        let mut body = Function::new([]);
        let (places, parameters) = (self.targets.len() as u32, self.ty.params().len() as u32);
        for _ in 0..=places {
            body.instruction(&Instruction::Block(BlockType::Empty));
        }
        body.instruction(&Instruction::LocalGet(parameters));
        body.instruction(&Instruction::I32Const(self.first));
        body.instruction(&Instruction::I32Sub);
        body.instruction(&Instruction::BrTable((0..places).collect(), places));
        for target in &self.targets {
            body.instruction(&Instruction::End);
            match target {
                Some(function) => {
                    for parameter in 0..parameters {
                        body.instruction(&Instruction::LocalGet(parameter));
                    }
                    body.instruction(&Instruction::Call(*function));
                    body.instruction(&Instruction::Return);
                }
                None => _ = body.instruction(&Instruction::Unreachable),
            }
        }
        body.instruction(&Instruction::End);
        body.instruction(&Instruction::Unreachable);
        body.instruction(&Instruction::End);
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmparser::{Validator, WasmFeatures};

    const MODULE: &str = r#"(module
        (import "env" "other" (func $other (param i64)))
        (memory (export "memory") 1)
        (table 8 funcref)
        (elem (i32.const 4) $one $other $two)
        (func $one (param i32) (result i32) (local i64) i32.const 1)
        (func $two (param i32) (result i32) local.get 0 i32.const 4 call_indirect (param i32) (result i32))
        (func (export "run") (param i32) (result i32)
            i32.const 7 local.get 0 call_indirect (param i32) (result i32)
            drop
            i32.const 8 local.get 0 call_indirect (param i32) (result i32)))"#;

    #[test]
    fn a_call_by_the_table_is_a_call_of_the_jump() {
        let module = without_table(&wat::parse_str(MODULE).unwrap()).unwrap().unwrap();
        Validator::new_with_features(WasmFeatures::default()).validate_all(&module).unwrap();
        let (mut bodies, mut names) = (Vec::new(), Vec::new());
        for payload in Parser::new(0).parse_all(&module) {
            match payload.unwrap() {
                Payload::TableSection(_) | Payload::ElementSection(_) => panic!("there is a table"),
                Payload::CodeSectionEntry(body) => {
                    let operators = body.get_operators_reader().unwrap().into_iter();
                    bodies.push(operators.map(|operator| format!("{:?}", operator.unwrap())).collect::<Vec<_>>());
                }
                Payload::CustomSection(section) => {
                    let KnownCustom::Name(section) = section.as_known() else { continue };
                    for kind in section {
                        if let Name::Function(map) = kind.unwrap() {
                            names = map.into_iter().map(|naming| naming.unwrap().name).collect();
                        }
                    }
                }
                _ => {}
            }
        }
        assert_eq!(names, ["other", "one", "two", Jump::NAME]);
        let jump = "Call { function_index: 4 }";
        assert_eq!(bodies.iter().flatten().filter(|operator| *operator == jump).count(), 3);
        let [_, _, _, jump] = bodies.as_slice() else { panic!("{bodies:?}") };
        // Places 4 to 6: the first and the last are of the type that is called.
        let from_decision: Vec<_> =
            jump.iter().skip_while(|operator| !operator.starts_with("BrTable")).skip(1).collect();
        let called = ["LocalGet { local_index: 0 }", "Call { function_index: 1 }", "Return"];
        let last = ["LocalGet { local_index: 0 }", "Call { function_index: 2 }", "Return"];
        let expected: Vec<&str> = ["End"]
            .into_iter()
            .chain(called)
            .chain(["End", "Unreachable", "End"])
            .chain(last)
            .chain(["End", "Unreachable", "End"])
            .collect();
        assert_eq!(from_decision, expected);
    }

    #[test]
    fn a_table_that_is_used_otherwise_stays() {
        for (what, instead) in [
            ("(table 8 funcref)", "(table (export \"table\") 8 funcref)"),
            ("(table 8 funcref)", "(table 8 funcref) (table 1 funcref)"),
            ("i32.const 1)", "ref.func $one drop i32.const 1)"),
            ("i32.const 1)", "table.size)"),
            ("i32.const 1)", "i64.const 1 i32.const 5 call_indirect (param i64) i32.const 1)"),
            ("(elem (i32.const 4) $one $other $two)", "(elem (i32.const 4) $one) (elem (i32.const 5) $two)"),
        ] {
            let other = MODULE.replacen(what, instead, 1);
            assert_ne!(other, MODULE, "{what}");
            assert!(without_table(&wat::parse_str(&other).unwrap()).unwrap().is_none(), "{instead}");
        }
        let none = wat::parse_str("(module (func))").unwrap();
        assert!(without_table(&none).unwrap().is_none());
    }
}
