//! Static programs, which run where nothing else is.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// A program of the repository.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    pub(super) package: &'static str,
    pub(super) binary: &'static str,
}

/// Builds a program with its libraries inside; says where it is. It is built alone: together with
/// others, libraries would have what any of them asks of them, and the program would depend on what
/// else was built.
///
/// # Errors
/// A build that fails, or a program that came out otherwise than static.
pub(super) fn build(root: &Path, profile: &str, program: Program) -> Result<PathBuf> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let places = places(root, &target)?;
    let mut build = Command::new(cargo);
    build
        .current_dir(root)
        .args(["build", "--locked", "--profile", profile])
        // Named, so that what runs while building (macros, scripts) is built as usual.
        .args(["--target", &triple, "-p", program.package])
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_INCREMENTAL", "0")
        // Not the flags of whoever builds: the same commit is to give the same program.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_RESOLVER_FEATURE_UNIFICATION")
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags(&places))
        .env(
            format!("CFLAGS_{}", triple.replace('-', "_")),
            c_flags(&places),
        );
    let status = build.status().context("cannot run cargo")?;
    ensure!(status.success(), "the build failed");
    // What cargo calls the profile `dev` is in `debug`.
    let folder = if profile == "dev" { "debug" } else { profile };
    let path = target.join(&triple).join(folder).join(program.binary);
    let bytes = std::fs::read(&path).with_context(|| format!("no {}", path.display()))?;
    ensure_static(&bytes).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Folders of this machine, with what stands for them in programs; the wider before the narrower, as
/// the last that fits is taken.
fn places(root: &Path, target: &Path) -> Result<Vec<(String, &'static str)>> {
    let cargo_home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => std::env::home_dir()
            .context("neither CARGO_HOME nor HOME is set")?
            .join(".cargo"),
    };
    let text = |path: &Path| path.to_str().map(str::to_owned).context("paths are UTF-8");
    Ok(vec![
        (text(&cargo_home)?, "/cargo"),
        (text(root)?, "/lateen"),
        (text(target)?, "/target"),
    ])
}

/// Parted as cargo wants them.
fn rust_flags(places: &[(String, &str)]) -> String {
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    flags.extend(
        places
            .iter()
            .map(|(from, to)| format!("--remap-path-prefix={from}={to}")),
    );
    flags.join("\x1f")
}

fn c_flags(places: &[(String, &str)]) -> String {
    let maps = places
        .iter()
        .map(|(from, to)| format!("-ffile-prefix-map={from}={to}"));
    maps.collect::<Vec<_>>().join(" ")
}

/// Whether a program asks for another that loads its libraries. ELF-64, `elf(5)`: `e_phoff`,
/// `e_phentsize` and `e_phnum`, and `p_type` of each program header.
fn ensure_static(elf: &[u8]) -> Result<()> {
    const INTERPRETER: u64 = 3;
    let number = |at: usize, length: usize| -> Result<u64> {
        let bytes = elf.get(at..at.saturating_add(length));
        let bytes = bytes.context("the program ends within its header")?;
        let mut whole = [0; 8];
        whole[..length].copy_from_slice(bytes);
        Ok(u64::from_le_bytes(whole))
    };
    if elf.get(..6) != Some(b"\x7fELF\x02\x01") {
        bail!("is no program of 64 bits");
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for n in 0..count {
        let at = usize::try_from(table.saturating_add(n * size)).context("a table far away")?;
        ensure!(
            number(at, 4)? != INTERPRETER,
            "is linked to libraries of this machine; install the static C library (Debian: libc6-dev)"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with program headers of these types.
    fn elf(types: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = u8::try_from(types.len()).expect("few");
        for kind in types {
            bytes.push(*kind);
            bytes.extend([0; 55]);
        }
        bytes
    }

    #[test]
    fn only_static_programs_are_taken() {
        let check = |bytes: &[u8]| ensure_static(bytes).map_err(|error| error.to_string());
        assert_eq!(check(&elf(&[6, 1, 2])), Ok(()));
        for (bytes, words) in [
            (elf(&[6, 3, 1]), "is linked to libraries"),
            (elf(&[1])[..70].to_vec(), ""),
            (elf(&[1, 1])[..120].to_vec(), "ends within"),
            (b"#!/bin/sh".to_vec(), "no program"),
        ] {
            match check(&bytes) {
                Ok(()) => assert_eq!(words, ""),
                Err(error) => assert!(error.contains(words), "{error}"),
            }
        }
        // The tests themselves are built as usual.
        let own = std::env::current_exe().expect("a path");
        let own = std::fs::read(own).expect("contents");
        assert!(check(&own).is_err_and(|error| error.contains("is linked to libraries")));
    }

    #[test]
    fn programs_name_no_folder_of_the_machine() {
        let places = [("/a b".to_owned(), "/cargo"), ("/c".to_owned(), "/lateen")];
        assert_eq!(
            rust_flags(&places),
            "-Ctarget-feature=+crt-static\x1f--remap-path-prefix=/a b=/cargo\x1f--remap-path-prefix=/c=/lateen"
        );
        assert_eq!(
            c_flags(&places),
            "-ffile-prefix-map=/a b=/cargo -ffile-prefix-map=/c=/lateen"
        );
    }
}
