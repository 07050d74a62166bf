//! A program that is none of ours: `c/shared-maps.c`, which knows the format of shared maps from its description alone.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use tempfile::TempDir;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/c/shared-maps.c");

/// Builds a C source with clang, or with another compiler if the machine has none.
#[track_caller]
fn compiled() -> PathBuf {
    static PROGRAM: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, program) = PROGRAM.get_or_init(|| {
        let directory = tempfile::tempdir().expect("there is room");
        let program = directory.path().join("shared-maps");
        let compile = |compiler: &str| {
            let options = ["-O1", "-Wall", "-Wextra", "-Werror", SOURCE, "-o"];
            Command::new(compiler).args(options).arg(&program).output()
        };
        let output = compile("clang").or_else(|_| compile("cc")).expect("a C compiler (Debian: clang)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (directory, program)
    });
    program.clone()
}

#[track_caller]
fn run(command: &str, pin: &Path, arguments: &[&str]) -> String {
    let output =
        Command::new(compiled()).arg(command).arg(pin).args(arguments).output().expect("it was built");
    assert!(output.status.success(), "{command} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it prints ASCII")
}

/// Creates and pins a map.
#[track_caller]
pub fn create(pin: &Path, map: &str, max: u32) {
    run("create", pin, &[map, &max.to_string()]);
}

/// The entries of a map, sorted: `192.0.2.1 0 1`, say, for what it is for, hits and action.
#[track_caller]
pub fn list(pin: &Path, map: &str) -> Vec<String> {
    let mut lines: Vec<_> = run("list", pin, &[map]).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Adds or changes an entry. The padding of its value is anything but zero.
#[track_caller]
pub fn set(pin: &Path, map: &str, entry: &str, hits: u64, action: u8) {
    run("set", pin, &[map, entry, &hits.to_string(), &action.to_string(), "a5"]);
}

/// Removes an entry.
#[track_caller]
pub fn delete(pin: &Path, map: &str, entry: &str) {
    run("delete", pin, &[map, entry]);
}
