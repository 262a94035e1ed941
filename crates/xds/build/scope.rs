//! Writes every type name in full before the compiler sees it.
//!
//! The compiler searches the packages of all files it has opened; protobuf searches only those a
//! file imports. With the whole tree open, `config.core.v3.Node` written inside
//! `envoy.extensions` would otherwise resolve into `envoy.extensions.config`.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    UninterpretedOption,
};

type Files = BTreeMap<String, FileDescriptorProto>;

/// Makes type names absolute and drops options that are extensions, which JSON does not need.
pub(crate) fn resolve(files: Files) -> Files {
    let symbols: BTreeMap<&str, BTreeSet<String>> = files
        .iter()
        .map(|(name, file)| (name.as_str(), symbols(file)))
        .collect();
    let resolved = files.iter().map(|(name, file)| {
        let visible = visible(file, &files)
            .into_iter()
            .filter_map(|import| symbols.get(import))
            .collect();
        let mut file = file.clone();
        Scope { visible }.file(&mut file);
        (name.clone(), file)
    });
    resolved.collect()
}

/// The file itself, its imports, and what those import publicly.
fn visible<'a>(file: &'a FileDescriptorProto, files: &'a Files) -> Vec<&'a str> {
    let mut names = vec![file.name()];
    let mut pending: Vec<&str> = file.dependency.iter().map(String::as_str).collect();
    while let Some(import) = pending.pop() {
        names.push(import);
        if let Some(imported) = files.get(import) {
            let public = imported.public_dependency.iter();
            pending.extend(public.map(|i| imported.dependency[*i as usize].as_str()));
        }
    }
    names
}

fn symbols(file: &FileDescriptorProto) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for message in &file.message_type {
        message_symbols(file.package(), message, &mut all);
    }
    for e in &file.enum_type {
        all.insert(join(file.package(), e.name()));
    }
    all
}

fn message_symbols(scope: &str, message: &DescriptorProto, all: &mut BTreeSet<String>) {
    let name = join(scope, message.name());
    for nested in &message.nested_type {
        message_symbols(&name, nested, all);
    }
    for e in &message.enum_type {
        all.insert(join(&name, e.name()));
    }
    all.insert(name);
}

fn join(scope: &str, name: &str) -> String {
    if scope.is_empty() {
        name.to_owned()
    } else {
        format!("{scope}.{name}")
    }
}

struct Scope<'a> {
    visible: Vec<&'a BTreeSet<String>>,
}

impl Scope<'_> {
    fn file(&self, file: &mut FileDescriptorProto) {
        let package = file.package().to_owned();
        for message in &mut file.message_type {
            self.message(&package, message);
        }
        for field in &mut file.extension {
            self.field(&package, field);
        }
        file.enum_type.iter_mut().for_each(enumeration);
        if let Some(options) = &mut file.options {
            plain_only(&mut options.uninterpreted_option);
        }
        // No service is called by reflection.
        file.service.clear();
    }

    fn message(&self, scope: &str, message: &mut DescriptorProto) {
        let scope = join(scope, message.name());
        for nested in &mut message.nested_type {
            self.message(&scope, nested);
        }
        for field in message.field.iter_mut().chain(&mut message.extension) {
            self.field(&scope, field);
        }
        for oneof in &mut message.oneof_decl {
            if let Some(options) = &mut oneof.options {
                plain_only(&mut options.uninterpreted_option);
            }
        }
        message.enum_type.iter_mut().for_each(enumeration);
        if let Some(options) = &mut message.options {
            plain_only(&mut options.uninterpreted_option);
        }
    }

    fn field(&self, scope: &str, field: &mut FieldDescriptorProto) {
        if let Some(name) = &mut field.type_name {
            self.make_absolute(scope, name);
        }
        if let Some(options) = &mut field.options {
            plain_only(&mut options.uninterpreted_option);
        }
    }

    /// Innermost scope first, as protobuf does. A name that no file here defines (the well-known
    /// types) stays as it is: the compiler knows those.
    fn make_absolute(&self, scope: &str, name: &mut String) {
        if name.starts_with('.') {
            return;
        }
        let mut scope = scope;
        loop {
            let candidate = join(scope, name);
            if self.visible.iter().any(|set| set.contains(&candidate)) {
                *name = format!(".{candidate}");
                return;
            }
            if scope.is_empty() {
                return;
            }
            scope = scope.rsplit_once('.').map_or("", |(outer, _)| outer);
        }
    }
}

fn enumeration(e: &mut EnumDescriptorProto) {
    if let Some(options) = &mut e.options {
        plain_only(&mut options.uninterpreted_option);
    }
    for value in &mut e.value {
        if let Some(options) = &mut value.options {
            plain_only(&mut options.uninterpreted_option);
        }
    }
}

fn plain_only(options: &mut Vec<UninterpretedOption>) {
    options.retain(|option| option.name.iter().all(|part| !part.is_extension));
}
