//! The same source gives the same bytes: what the clock, chance and the file system leave in an interpreter's memory isn't kept.
//!
//! `componentize-py` imports a function with the machine's own clock, randomness and files, and keeps the memory. What Python
//! does with them is kept apart by a library that is linked to it (`reproducible.wat`). What is left are numbers that libraries
//! hold from before Python begins, and what returned functions have left on the stack. They are nothing to anybody, and are
//! set to zero here.

use anyhow::Context as _;
use std::{collections::HashMap, ops::Range};
use wasmparser::{ConstExpr, Data, DataKind, ExternalKind, Operator, Parser, Payload, TypeRef};

/// The library that is linked to Python's while a component is made.
pub(super) fn library() -> anyhow::Result<Vec<u8>> {
    wat::parse_str(include_str!("reproducible.wat")).context("the library of Python isn't WebAssembly")
}

/// Sets to zero what one making of a component has and the next hasn't.
pub(super) fn forget(component: &mut [u8]) -> anyhow::Result<()> {
    let kept = Kept::read(component)?;
    let Some(memory) = kept.pieces.iter().map(|piece| piece.at + piece.bytes.len()).max() else { return Ok(()) };
    let mut image = vec![0; memory];
    for piece in &kept.pieces {
        image[piece.at..][..piece.bytes.len()].copy_from_slice(&component[piece.bytes.clone()]);
    }
    for range in kept.found(&image) {
        image[range].fill(0);
    }
    for Piece { at, bytes } in kept.pieces {
        let length = bytes.len();
        component[bytes].copy_from_slice(&image[at..][..length]);
    }
    Ok(())
}

/// The memory that is kept, and what has which place in it.
#[derive(Default)]
struct Kept<'a> {
    pieces: Vec<Piece>,
    places: HashMap<&'a str, usize>,
}

/// A piece of the memory: where it is in the component.
struct Piece {
    at: usize,
    bytes: Range<usize>,
}

const CLOCK: &str = "libwasi-emulated-process-clocks.so";
const PYTHON: &str = "libpython3.14.so";
const AFTER_PYTHON: &str = "libc.so";

impl<'a> Kept<'a> {
    /// The first module is what the libraries have in common: memory, and the numbers of places.
    fn read(component: &'a [u8]) -> anyhow::Result<Self> {
        let mut kept = Self::default();
        let mut globals = Vec::new();
        for payload in Parser::new(0).parse_all(component) {
            match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        if let TypeRef::Global(_) = import?.ty {
                            globals.push(None);
                        }
                    }
                }
                Payload::GlobalSection(section) => {
                    for global in section {
                        globals.push(number(&global?.init_expr)?);
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        if let (ExternalKind::Global, Some(Some(place))) =
                            (export.kind, globals.get(export.index as usize))
                        {
                            kept.places.insert(export.name, *place);
                        }
                    }
                }
                Payload::DataSection(section) => {
                    for data in section {
                        let Data { kind: DataKind::Active { offset_expr, .. }, data, range } = data? else { continue };
                        if let Some(at) = number(&offset_expr)? {
                            kept.pieces.push(Piece { at, bytes: range.end - data.len()..range.end });
                        }
                    }
                    break;
                }
                _ => {}
            }
        }
        Ok(kept)
    }

    /// What is of this one making, in memory.
    fn found(&self, memory: &[u8]) -> Vec<Range<usize>> {
        let place = |library: &str| self.places.get(format!("{library}:memory_base").as_str()).copied();
        let mut found = Vec::new();
        // Nothing of the stack that is below its pointer is in use.
        found.extend(self.places.get("__stack_pointer").map(|pointer| 0..*pointer));
        // When the process began: seconds and nanoseconds.
        let begun = place(CLOCK).map(|clock| clock + 8..clock + 24);
        if let (Some(begun), Some(python), Some(end)) = (&begun, place(PYTHON), place(AFTER_PYTHON)) {
            let millis = long(memory, begun.start).zip(long(memory, begun.start + 8));
            let millis = millis.map(|(seconds, nanos)| seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000));
            found.extend(of_mimalloc(memory, python..end, millis.unwrap_or_default()));
        }
        found.extend(begun);
        found.retain(|range| range.end <= memory.len());
        found
    }
}

fn number(expression: &ConstExpr<'_>) -> anyhow::Result<Option<usize>> {
    Ok(match expression.get_operators_reader().read()? {
        Operator::I32Const { value } => Some(value.cast_unsigned() as usize),
        _ => None,
    })
}

fn long(memory: &[u8], at: usize) -> Option<i64> {
    memory.get(at..at + 8).map(|bytes| i64::from_le_bytes(bytes.try_into().expect("there are 8")))
}

/// What an allocator that Python has and doesn't use holds: random numbers, and when it began, in milliseconds, which was just
/// before the process did.
fn of_mimalloc(memory: &[u8], python: Range<usize>, process: i64) -> Vec<Range<usize>> {
    /// The state of its generator begins with this. In front of that are three more of its numbers.
    const STATE: &[u8] = b"expand 32-byte k";
    const STATE_ENDS: usize = 2 * 64 + 4;
    const NUMBERS: usize = 3 * 4;
    const SOON: i64 = 10;
    let Some(own) = memory.get(python.clone()) else { return Vec::new() };
    // The same words are among the constants, which come first.
    let state = own.windows(STATE.len()).rposition(|window| window == STATE).map(|at| python.start + at);
    let random = state.into_iter().flat_map(|at| [at.saturating_sub(NUMBERS)..at, at + STATE.len()..at + STATE_ENDS]);
    // It is among what began as zero, which comes last.
    let mut words = python.step_by(8).rev();
    let begun = words.find(|at| long(memory, *at).is_some_and(|word| (process - SOON..=process).contains(&word)));
    random.chain(begun.map(|at| at..at + 8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmparser::{Validator, WasmFeatures};

    #[test]
    fn the_library_is_webassembly() {
        let library = library().unwrap();
        Validator::new_with_features(WasmFeatures::default()).validate_all(&library).unwrap();
        // `dunlin/_build.py` looks for it.
        assert_eq!(library.windows(11).filter(|window| window == b"0000000000\0").count(), 1);
    }

    #[test]
    fn what_one_making_has_is_forgotten_and_nothing_else() {
        let mut memory = vec![0x11; 600];
        let mut put = |at: usize, bytes: &[u8]| memory[at..at + bytes.len()].copy_from_slice(bytes);
        // A constant of Python's, one that is like a time, the state of the generator, and a time.
        put(64, b"expand 32-byte k");
        put(96, &7844_i64.to_le_bytes());
        put(200, b"expand 32-byte k");
        put(480, &7844_i64.to_le_bytes());
        put(520, &7_i64.to_le_bytes());
        put(528, &844_528_652_i64.to_le_bytes());
        let data: String = memory.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let mut component = wat::parse_str(format!(
            r#"(component (core module (memory (export "memory") 1)
                (global (export "__stack_pointer") (mut i32) (i32.const 40))
                (global (export "{PYTHON}:memory_base") i32 (i32.const 64))
                (global (export "{AFTER_PYTHON}:memory_base") i32 (i32.const 512))
                (global (export "{CLOCK}:memory_base") i32 (i32.const 512))
                (data (i32.const 0) "{data}")))"#
        ))
        .unwrap();
        let before = component.clone();
        forget(&mut component).unwrap();

        for range in [0..40, 188..200, 216..332, 480..488, 520..536] {
            memory[range].fill(0);
        }
        let at = component.len() - memory.len();
        assert_eq!(component[..at], before[..at]);
        assert!(
            component[at..] == memory,
            "{:?}",
            (0..600).filter(|n| component[at + n] != memory[*n]).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_component_of_another_kind_stays_as_it_is() {
        let before = wat::parse_str(r#"(component (core module (memory 1) (data (i32.const 0) "data")))"#).unwrap();
        let mut component = before.clone();
        forget(&mut component).unwrap();
        assert_eq!(component, before);
    }
}
