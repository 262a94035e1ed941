//! Makes the descriptor set behind `json`: the message crate ships its `.proto` files, and protox
//! compiles them without `protoc`.

#![expect(clippy::print_stdout, reason = "how a build script talks to cargo")]

mod scope;

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use protox::file::{File, FileResolver, GoogleFileResolver};

/// Where import paths start, below the package's `proto` folder.
const INCLUDES: [&str; 8] = [
    "data-plane-api",
    "googleapis",
    "protoc-gen-validate",
    "xds",
    "cel-spec/proto",
    "client_model",
    "opentelemetry-proto",
    "ratelimit/api",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build");
    let proto = message_package()?.join("proto");
    let mut files = BTreeMap::new();
    for include in INCLUDES {
        let dir = proto.join(include);
        parse_all(&dir, &dir, &mut files)?;
    }
    let files = scope::resolve(files);
    let names: Vec<String> = files.keys().cloned().collect();
    let mut compiler = protox::Compiler::with_file_resolver(Parsed(files));
    compiler.include_imports(true).open_files(names)?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join("envoy.bin");
    std::fs::write(out, compiler.encode_file_descriptor_set())?;
    Ok(())
}

/// The folder of the message crate's sources. Cargo offers no variable for it, its metadata does.
fn message_package() -> Result<PathBuf, Box<dyn Error>> {
    let output = Command::new(env::var("CARGO")?)
        // Only what this target needs has been downloaded, and a build does not go online.
        .args(["metadata", "--format-version", "1", "--offline"])
        .args(["--filter-platform", &env::var("TARGET")?])
        .arg("--manifest-path")
        .arg(Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("Cargo.toml"))
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "envoy-types")
        .and_then(|package| Path::new(package["manifest_path"].as_str()?).parent())
        .map(Path::to_owned)
        .ok_or_else(|| "the dependency envoy-types is not in cargo's metadata".into())
}

fn parse_all(
    include: &Path,
    dir: &Path,
    files: &mut BTreeMap<String, prost_types::FileDescriptorProto>,
) -> Result<(), Box<dyn Error>> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            parse_all(include, &path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            let name = path.strip_prefix(include)?.to_string_lossy().into_owned();
            let file = File::open(&name, &path)?;
            files.insert(name, file.file_descriptor_proto().clone());
        }
    }
    Ok(())
}

/// Hands the parsed files to the compiler.
struct Parsed(BTreeMap<String, prost_types::FileDescriptorProto>);

impl FileResolver for Parsed {
    fn resolve_path(&self, path: &Path) -> Option<String> {
        path.to_str().map(str::to_owned)
    }

    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(file) => Ok(File::from_file_descriptor_proto(file.clone())),
            None => GoogleFileResolver::new().open_file(name),
        }
    }
}
