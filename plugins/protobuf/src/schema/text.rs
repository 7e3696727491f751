//! The files of a schema: as `.proto` text, or as descriptors in base64, with all that they import.

use super::Invalid;
use plain::base64;
use plain::trouble::cut;
use prost::Message;
use prost_reflect::DescriptorPool;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet, UninterpretedOption,
};
use std::collections::HashSet;

/// The files that a schema is made of.
pub(super) struct Files {
    pub(super) pool: DescriptorPool,
    /// The name of the one that was asked for.
    pub(super) main: String,
}

/// No import can name it.
const MAIN: &str = "(schema)";

/// Files that are there without being referred to, as in the registry. Google's own types are in the pool already.
const BUILT_IN: &[(&str, &str)] = &[
    ("confluent/meta.proto", include_str!("built_in/meta.proto")),
    (
        "confluent/type/decimal.proto",
        include_str!("built_in/decimal.proto"),
    ),
];

/// The largest text of one file.
const TEXT_BYTES_MAX: usize = 4 << 20;

/// Messages, options and what else has brackets, in each other. The parser takes stack for each.
const BRACKETS_MAX: usize = 64;

/// What a main schema and all it refers to hold, at most.
const FILES_MAX: usize = 1_000;

pub(super) fn files(text: &str, references: &[(String, String)]) -> Result<Files, Invalid> {
    let mut found = Found::default();
    let main = found.add(MAIN, text)?;
    for (name, text) in references {
        if !found.names.contains(name) {
            found.add(name, text)?;
        }
    }
    found.add_built_in()?;
    let mut pool = DescriptorPool::global();
    let added = pool.add_file_descriptor_protos(found.files);
    added.map_err(|error| Invalid(said(&format!("{error:?}"))))?;
    Ok(Files { pool, main })
}

/// Errors of the parser and the linker name places as `(schema):3:7: what`; more lines repeat the text.
fn said(error: &str) -> String {
    let first = error.lines().next().unwrap_or_default();
    cut(first.trim_start_matches(MAIN).trim_start_matches(':'))
}

#[derive(Default)]
struct Found {
    files: Vec<FileDescriptorProto>,
    names: HashSet<String>,
}

impl Found {
    /// Adds what a text holds; answers the name of its own file.
    fn add(&mut self, name: &str, text: &str) -> Result<String, Invalid> {
        if text.len() > TEXT_BYTES_MAX {
            let reason = format!(
                "{name} has {} bytes, and {TEXT_BYTES_MAX} is the most",
                text.len()
            );
            return Err(Invalid(reason));
        }
        let files = match descriptors(text) {
            Some(files) => files?,
            None => vec![parsed(name, text)?],
        };
        // Of a set of descriptors, each lies behind what it imports: the last is what it was made for.
        let main = files
            .last()
            .map_or_else(String::new, |file| file.name().to_owned());
        let is_alone = files.len() == 1;
        for mut file in files {
            // A reference's own name is the one it is imported by.
            if is_alone && name != MAIN {
                file.name = Some(name.to_owned());
            }
            self.push(file)?;
        }
        Ok(main)
    }

    fn push(&mut self, mut file: FileDescriptorProto) -> Result<(), Invalid> {
        let is_known = file.name().starts_with("google/protobuf/")
            && DescriptorPool::global().get_file_by_name(file.name()).is_some();
        if is_known || !self.names.insert(file.name().to_owned()) {
            return Ok(());
        }
        if self.files.len() == FILES_MAX {
            return Err(Invalid(format!("it is made of more than {FILES_MAX} files")));
        }
        let syntax = file.syntax();
        if !["", "proto2", "proto3"].contains(&syntax) {
            let reason = format!(
                "{} has the syntax `{}`, and proto2 and proto3 are read",
                file.name(),
                cut(syntax)
            );
            return Err(Invalid(reason));
        }
        // What a reader does not use need not be there: custom options, services, comments.
        file.service.clear();
        file.source_code_info = None;
        forget_custom_options(&mut file);
        self.files.push(file);
        Ok(())
    }

    /// Adds what is imported and built in.
    fn add_built_in(&mut self) -> Result<(), Invalid> {
        for (name, text) in BUILT_IN {
            let is_imported = self
                .files
                .iter()
                .any(|file| file.dependency.iter().any(|import| import == name));
            if is_imported && !self.names.contains(*name) {
                self.push(parsed(name, text)?)?;
            }
        }
        Ok(())
    }
}

fn parsed(name: &str, text: &str) -> Result<FileDescriptorProto, Invalid> {
    if depth(text) > BRACKETS_MAX {
        return Err(Invalid(format!(
            "brackets lie more than {BRACKETS_MAX} deep in each other"
        )));
    }
    protox_parse::parse(name, text).map_err(|error| {
        let line = error.span().and_then(|span| text.get(..span.start));
        let line = line.map(|before| before.matches('\n').count() + 1);
        let place = match line {
            Some(line) if name == MAIN => format!("line {line}: "),
            Some(line) => format!("{name}, line {line}: "),
            None => String::new(),
        };
        Invalid(format!("{place}{}", cut(&error.to_string())))
    })
}

/// How deep brackets lie in each other, besides those in comments and texts.
fn depth(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut depth, mut deepest, mut at) = (0usize, 0, 0);
    let behind = |from: usize, what: &str| {
        let rest = text.get(from..).unwrap_or_default();
        rest.find(what)
            .map_or(bytes.len(), |length| from + length + what.len())
    };
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'/' if bytes.get(at) == Some(&b'/') => at = behind(at, "\n"),
            b'/' if bytes.get(at) == Some(&b'*') => at = behind(at + 1, "*/"),
            b'"' | b'\'' => {
                while let Some(inner) = bytes.get(at).filter(|inner| *inner != byte && **inner != b'\n') {
                    at += if *inner == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'{' | b'[' | b'<' | b'(' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' | b'>' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The files of a text that is base64 of descriptors; nothing where it is none.
fn descriptors(text: &str) -> Option<Result<Vec<FileDescriptorProto>, Invalid>> {
    let text = text.trim();
    if text.is_empty()
        || text
            .bytes()
            .any(|byte| !byte.is_ascii_alphanumeric() && !b"+/=".contains(&byte))
    {
        return None;
    }
    let bytes = base64::read(text)?;
    Some(decoded(&bytes).ok_or_else(|| Invalid("it is base64, but of no descriptors".to_owned())))
}

/// One file's descriptor, as the registry serves it, or a set of them, as `protoc` writes it.
fn decoded(bytes: &[u8]) -> Option<Vec<FileDescriptorProto>> {
    // Of both the field 1 comes first: a file's name, or a whole file. A file alone has other fields behind it.
    if let Ok(set) = FileDescriptorSet::decode(bytes)
        && !set.file.is_empty()
        && set.encoded_len() == bytes.len()
        && set.file.iter().all(|file| !file.name().is_empty())
    {
        return Some(set.file);
    }
    let file = FileDescriptorProto::decode(bytes).ok()?;
    (!file.name().is_empty()).then(|| vec![file])
}

/// Options that are defined outside of Protobuf itself need their definitions, and mean nothing here.
fn forget_custom_options(file: &mut FileDescriptorProto) {
    fn forget(options: Option<&mut Vec<UninterpretedOption>>) {
        let is_custom = |option: &UninterpretedOption| option.name.iter().any(|part| part.is_extension);
        if let Some(options) = options {
            options.retain(|option| !is_custom(option));
        }
    }
    fn of_enum(one: &mut EnumDescriptorProto) {
        forget(
            one.options
                .as_mut()
                .map(|options| &mut options.uninterpreted_option),
        );
        for value in &mut one.value {
            forget(
                value
                    .options
                    .as_mut()
                    .map(|options| &mut options.uninterpreted_option),
            );
        }
    }
    fn of_message(message: &mut DescriptorProto) {
        forget(
            message
                .options
                .as_mut()
                .map(|options| &mut options.uninterpreted_option),
        );
        for field in message.field.iter_mut().chain(&mut message.extension) {
            forget(
                field
                    .options
                    .as_mut()
                    .map(|options| &mut options.uninterpreted_option),
            );
        }
        for oneof in &mut message.oneof_decl {
            forget(
                oneof
                    .options
                    .as_mut()
                    .map(|options| &mut options.uninterpreted_option),
            );
        }
        for range in &mut message.extension_range {
            forget(
                range
                    .options
                    .as_mut()
                    .map(|options| &mut options.uninterpreted_option),
            );
        }
        message.enum_type.iter_mut().for_each(of_enum);
        message.nested_type.iter_mut().for_each(of_message);
    }
    forget(
        file.options
            .as_mut()
            .map(|options| &mut options.uninterpreted_option),
    );
    for field in &mut file.extension {
        forget(
            field
                .options
                .as_mut()
                .map(|options| &mut options.uninterpreted_option),
        );
    }
    file.enum_type.iter_mut().for_each(of_enum);
    file.message_type.iter_mut().for_each(of_message);
}
