//! Notes what this crate is compiled with. The compiler and the target go into every plugin's
//! manifest; all of it goes into the fingerprints of types.

use std::{env, error::Error, process::Command};

fn main() -> Result<(), Box<dyn Error>> {
    let output = Command::new(env::var("RUSTC")?).arg("-vV").output()?;
    let text = String::from_utf8(output.stdout)?;
    let version = text.lines().next().unwrap_or_default();
    println!("cargo::rustc-env=KSI_RUSTC={version}");
    println!("cargo::rustc-env=KSI_TARGET={}", env::var("TARGET")?);

    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    // A flag may be written in one word or in two.
    let flags = flags.replace("-Z\x1f", "-Z");
    // Unstable flags may change layouts, and some target features change what types std is made of.
    let flags: Vec<&str> = flags
        .split('\x1f')
        .filter(|flag| flag.starts_with("-Z") || flag.contains("target-feature"))
        .collect();
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    // The compiler's whole text: version, commit and LLVM too.
    let compiler = text.lines().collect::<Vec<_>>().join(";");
    println!(
        "cargo::rustc-env=KSI_BUILD={compiler} {} {features} {}",
        env::var("TARGET")?,
        flags.join(" ")
    );
    println!("cargo::rerun-if-env-changed=CARGO_ENCODED_RUSTFLAGS");
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}
