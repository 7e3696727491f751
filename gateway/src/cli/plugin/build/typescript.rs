//! The contract as TypeScript types, in the shapes that componentize-qjs gives and takes: records as objects and names
//! in camel case, variants as `{ tag, val }`, options as null or left out, 64-bit numbers as numbers.
//!
//! `culvert.d.ts` has the types, a namespace for each interface, and an interface for what it exports or imports;
//! `capabilities.d.ts` the modules that a source imports.

use super::bindings::World;
use std::fmt::Write;
use wit_bindgen_core::Files;
use wit_parser::{
    Docs, Function, Handle, Interface, InterfaceId, Resolve, Type, TypeDef, TypeDefKind, TypeId, TypeOwner,
    WorldItem,
};

/// Both files.
pub(super) fn types(world: &World) -> Files {
    let resolve = &world.resolve;
    let items = &resolve.worlds[world.id];
    let interface = |item: &WorldItem| match item {
        WorldItem::Interface { id, .. } => Some(*id),
        _ => None,
    };
    let imports: Vec<InterfaceId> = items.imports.values().filter_map(interface).collect();
    let exports: Vec<InterfaceId> = items.exports.values().filter_map(interface).collect();
    let mut all = imports.clone();
    all.extend(exports.iter().filter(|id| !imports.contains(id)));

    let mut files = Files::default();
    files.push("culvert.d.ts", Printer { resolve }.types(&all).as_bytes());
    let mut capabilities = format!("{HEAD}\n");
    for id in imports
        .iter()
        .filter(|id| !resolve.interfaces[**id].functions.is_empty())
    {
        capabilities += &module(resolve, *id);
    }
    files.push("capabilities.d.ts", capabilities.as_bytes());
    files
}

const HEAD: &str = "// Made by `culvert plugin build` from wit/: do not edit.\n";

/// An imported interface, as the source imports it.
fn module(resolve: &Resolve, id: InterfaceId) -> String {
    let name = resolve.id_of(id).unwrap_or_default();
    let interface = upper(resolve.interfaces[id].name.as_deref().unwrap_or_default());
    format!(
        "declare module '{name}' {{\n  const it: import('./culvert').{interface};\n  export default it;\n}}\n"
    )
}

struct Printer<'a> {
    resolve: &'a Resolve,
}

impl Printer<'_> {
    fn types(&self, interfaces: &[InterfaceId]) -> String {
        let mut text = HEAD.to_owned();
        for id in interfaces {
            let interface = &self.resolve.interfaces[*id];
            let name = interface.name.as_deref().unwrap_or_default();
            if !interface.types.is_empty() {
                text += &format!(
                    "\n{}export namespace {} {{\n",
                    docs(&interface.docs, ""),
                    lower(name)
                );
                for (name, id) in &interface.types {
                    text += &self.definition(name, &self.resolve.types[*id]);
                }
                text += "}\n";
            }
            if !interface.functions.is_empty() {
                text += &self.functions(name, interface);
            }
        }
        text
    }

    fn functions(&self, name: &str, interface: &Interface) -> String {
        let mut text = format!(
            "\n{}export interface {} {{\n",
            docs(&interface.docs, ""),
            upper(name)
        );
        for (name, function) in &interface.functions {
            let _ = writeln!(
                text,
                "{}  {}{};",
                docs(&function.docs, "  "),
                lower(name),
                self.signature(function)
            );
        }
        text + "}\n"
    }

    /// What a function's error is, it throws.
    fn signature(&self, function: &Function) -> String {
        let parameters: Vec<String> = function
            .params
            .iter()
            .map(|it| format!("{}: {}", lower(&it.name), self.name(&it.ty)))
            .collect();
        let result = match function.result.as_ref().map(|ty| (ty, self.result(ty))) {
            None => "void".to_owned(),
            Some((_, Some(ok))) => ok.map_or_else(|| "void".to_owned(), |ok| self.name(&ok)),
            Some((ty, None)) => self.name(ty),
        };
        format!("({}): {result}", parameters.join(", "))
    }

    /// The good half of a result.
    fn result(&self, ty: &Type) -> Option<Option<Type>> {
        match ty {
            Type::Id(id) => match &self.resolve.types[*id].kind {
                TypeDefKind::Result(result) => Some(result.ok),
                _ => None,
            },
            _ => None,
        }
    }

    fn definition(&self, name: &str, ty: &TypeDef) -> String {
        let mut text = docs(&ty.docs, "  ");
        let name = upper(name);
        let _ = match &ty.kind {
            TypeDefKind::Record(record) => {
                let fields = record.fields.iter().map(|it| (&it.docs, lower(&it.name), it.ty));
                let fields: String = fields
                    .map(|(docs, name, ty)| self.field(docs, &name, &ty))
                    .collect();
                writeln!(text, "  interface {name} {{\n{fields}  }}")
            }
            TypeDefKind::Flags(flags) => {
                let flags = flags.flags.iter();
                let fields: String = flags
                    .map(|it| format!("{}    {}?: boolean;\n", docs(&it.docs, "    "), lower(&it.name)))
                    .collect();
                writeln!(text, "  interface {name} {{\n{fields}  }}")
            }
            TypeDefKind::Variant(variant) => {
                let cases = variant.cases.iter().map(|it| {
                    let val = it
                        .ty
                        .map(|ty| format!("; val: {}", self.name(&ty)))
                        .unwrap_or_default();
                    format!("\n{}    | {{ tag: '{}'{val} }}", docs(&it.docs, "    "), it.name)
                });
                writeln!(text, "  type {name} ={};", cases.collect::<String>())
            }
            TypeDefKind::Enum(cases) => {
                let cases: Vec<String> = cases.cases.iter().map(|it| format!("'{}'", it.name)).collect();
                writeln!(text, "  type {name} = {};", cases.join(" | "))
            }
            // A handle: it can be passed on, and nothing else. The field is there for the compiler alone.
            TypeDefKind::Resource => writeln!(text, "  interface {name} {{ readonly __handle: '{name}' }}"),
            kind => writeln!(text, "  type {name} = {};", self.kind(kind)),
        };
        text
    }

    /// A field that may be none may be left out.
    fn field(&self, its: &Docs, name: &str, ty: &Type) -> String {
        let question = if self.is_option(ty) { "?" } else { "" };
        format!("{}    {name}{question}: {};\n", docs(its, "    "), self.name(ty))
    }

    fn is_option(&self, ty: &Type) -> bool {
        matches!(ty, Type::Id(id) if matches!(self.resolve.types[*id].kind, TypeDefKind::Option(_)))
    }

    fn name(&self, ty: &Type) -> String {
        match ty {
            Type::Bool => "boolean".into(),
            Type::Char | Type::String => "string".into(),
            Type::Id(id) => self.named(*id),
            _ => "number".into(),
        }
    }

    fn named(&self, id: TypeId) -> String {
        let ty = &self.resolve.types[id];
        match (&ty.name, ty.owner) {
            (Some(name), TypeOwner::Interface(owner)) => {
                let interface = self.resolve.interfaces[owner].name.as_deref().unwrap_or_default();
                format!("{}.{}", lower(interface), upper(name))
            }
            (Some(name), _) => upper(name),
            (None, _) => self.kind(&ty.kind),
        }
    }

    fn kind(&self, kind: &TypeDefKind) -> String {
        match kind {
            TypeDefKind::Type(ty) => self.name(ty),
            TypeDefKind::Option(ty) => format!("{} | null", self.name(ty)),
            TypeDefKind::List(Type::U8) => "Uint8Array".into(),
            TypeDefKind::List(ty) => match self.name(ty) {
                name if name.contains(' ') => format!("Array<{name}>"),
                name => format!("{name}[]"),
            },
            TypeDefKind::Tuple(tuple) => {
                let types: Vec<String> = tuple.types.iter().map(|ty| self.name(ty)).collect();
                format!("[{}]", types.join(", "))
            }
            TypeDefKind::Result(result) => {
                let half = |ty: &Option<Type>| {
                    ty.map(|ty| format!("; val: {}", self.name(&ty)))
                        .unwrap_or_default()
                };
                format!(
                    "{{ tag: 'ok'{} }} | {{ tag: 'err'{} }}",
                    half(&result.ok),
                    half(&result.err)
                )
            }
            TypeDefKind::Map(key, value) => format!("Map<{}, {}>", self.name(key), self.name(value)),
            TypeDefKind::Handle(Handle::Own(id) | Handle::Borrow(id)) => self.named(*id),
            // Streams and futures: no synchronous contract has them.
            _ => "unknown".into(),
        }
    }
}

fn docs(docs: &Docs, indent: &str) -> String {
    let Some(text) = docs
        .contents
        .as_deref()
        .map(str::trim)
        .filter(|text| !text.is_empty())
    else {
        return String::new();
    };
    let text = text.replace("*/", "* /");
    if !text.contains('\n') {
        return format!("{indent}/** {text} */\n");
    }
    let lines: String = text.lines().map(|line| format!("{indent} * {line}\n")).collect();
    format!("{indent}/**\n{lines}{indent} */\n")
}

/// `resume-point` as `ResumePoint`.
fn upper(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
            .unwrap_or_default()
    };
    name.split('-').map(word).collect()
}

/// `resume-point` as `resumePoint`.
fn lower(name: &str) -> String {
    let name = upper(name);
    let mut letters = name.chars();
    letters
        .next()
        .map(|first| first.to_ascii_lowercase().to_string() + letters.as_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTRACT: &str = "
        package a:b@1.0.0;
        interface types {
          /// A record.
          record the-message { key: option<list<u8>>, sizes: list<u64> }
          flags needs { key, the-value }
          enum level { low, very-high }
          variant outcome { keep, change(the-message) }
        }
        interface work {
          use types.{the-message, outcome};
          do-it: func(all: list<the-message>) -> result<list<outcome>, string>;
          close: func();
        }
        interface log { write: func(text: string, at: option<u32>); }
        interface secrets { resource secret; get: func(name: string) -> result<secret>; }
        world plugin { import log; import secrets; export work; }";

    /// What the contract above becomes holds `expected`.
    #[track_caller]
    fn check(file: &str, expected: &[&str]) {
        let mut resolve = Resolve::default();
        let package = resolve.push_str("a.wit", CONTRACT).expect("it is WIT");
        let id = resolve.select_world(&[package], None).expect("it has one world");
        let mut files = types(&World { resolve, id });
        let text = String::from_utf8(files.remove(file).expect("it is made")).expect("it is text");
        for part in expected {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    }

    #[test]
    fn types_have_the_shapes_of_the_runtime() {
        check(
            "culvert.d.ts",
            &[
                "export namespace types {\n",
                "  /** A record. */\n  interface TheMessage {\n    key?: Uint8Array | null;\n    sizes: number[];\n  }\n",
                "  interface Needs {\n    key?: boolean;\n    theValue?: boolean;\n  }\n",
                "  type Level = 'low' | 'very-high';\n",
                "\n    | { tag: 'keep' }\n    | { tag: 'change'; val: types.TheMessage };\n",
            ],
        );
    }

    #[test]
    fn functions_answer_the_good_half_and_throw_the_other() {
        check(
            "culvert.d.ts",
            &[
                "export namespace work {\n  type TheMessage = types.TheMessage;\n",
                "export interface Work {\n  doIt(all: work.TheMessage[]): work.Outcome[];\n  close(): void;\n}\n",
                "export interface Log {\n  write(text: string, at: number | null): void;\n}\n",
                "  get(name: string): secrets.Secret;\n",
            ],
        );
    }

    #[test]
    fn capabilities_are_modules() {
        check(
            "capabilities.d.ts",
            &[
                "declare module 'a:b/log@1.0.0' {\n  const it: import('./culvert').Log;\n  export default it;\n}\n",
            ],
        );
    }
}
