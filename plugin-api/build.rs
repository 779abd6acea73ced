//! Notes the compiler and the target, which go into every plugin's manifest.

use std::{env, error::Error, process::Command};

fn main() -> Result<(), Box<dyn Error>> {
    let output = Command::new(env::var("RUSTC")?).arg("-V").output()?;
    let version = String::from_utf8(output.stdout)?;
    println!("cargo::rustc-env=KSI_RUSTC={}", version.trim());
    println!("cargo::rustc-env=KSI_TARGET={}", env::var("TARGET")?);
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}
