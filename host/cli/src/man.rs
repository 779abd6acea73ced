//! `ksi man DIR`: a page of the manual for each command.

use std::path::Path;
use std::{fs, io};

use clap::{Command, CommandFactory};

use super::args::{Args, Man};
use super::exit::{CommandFailure, EXIT_CODES};
use super::output;

pub(crate) fn man(args: &Man) -> Result<(), CommandFailure> {
    let failed = || CommandFailure::host("cannot write the pages of the manual");
    fs::create_dir_all(&args.dir).map_err(failed())?;
    let mut command = Args::command().disable_help_flag(true);
    command.build();
    let written = write(&command, &args.dir).map_err(failed())?;
    output::text(&output::plain(&format!("wrote {written} pages to {}", args.dir.display())))
}

/// The page of a command and those of all below it; how many there are.
fn write(command: &Command, dir: &Path) -> io::Result<usize> {
    // As in `ksi-config-show`.
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    page.extend(exit_status().into_bytes());
    fs::write(dir.join(format!("{name}.1")), page)?;
    let below = command.get_subcommands().filter(|it| !it.is_hide_set());
    below.map(|inner| write(inner, dir)).try_fold(1, |sum, written| Ok(sum + written?))
}

/// In the language of manual pages.
fn exit_status() -> String {
    let codes =
        EXIT_CODES.iter().map(|(code, meaning)| format!(".TP\n\\fB{code}\\fR\n{meaning}\n"));
    format!(".SH \"EXIT STATUS\"\n{}", codes.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_with_the_exit_codes() {
        let folder = tempfile::tempdir().expect("a folder");
        man(&Man { dir: folder.path().join("man1") }).expect("the pages");
        for name in ["ksi", "ksi-run", "ksi-config-show"] {
            let path = folder.path().join("man1").join(format!("{name}.1"));
            let page = fs::read_to_string(&path).expect(name);
            assert!(page.contains(".TH ") && page.contains("EXIT STATUS"), "{page}");
            assert!(page.contains("\\fB3\\fR\nno host there"), "{page}");
        }
    }
}
