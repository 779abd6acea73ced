//! What a reload cannot do without: a copy of the file, and that copy opened. It is measured by
//! turns with reloads, of the same files, and they are held against it: a machine that gets slower
//! does so for both.

use std::{
    fs, io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use ksi_figures::{Best, Series};
use libloading::Library;

/// Windows that a stretch of so many reloads is cut into.
const WINDOWS: u64 = 10;

/// Reloads, and as many copies that were opened, in milliseconds.
pub(crate) struct Beside {
    pub(crate) reloads: Series,
    pub(crate) bare: Series,
}

impl Beside {
    /// For about so many of each.
    pub(crate) fn of(count: u64) -> Self {
        let turns = usize::try_from(count / WINDOWS).unwrap_or(usize::MAX);
        let series = || Series::new(Best::Least, turns);
        Beside { reloads: series(), bare: series() }
    }

    /// Adds a turn: what a reload took, and what it takes to copy that file and open the copy,
    /// which is done now.
    ///
    /// # Errors
    /// The file cannot be copied or opened.
    pub(crate) async fn turn(&mut self, reload: Duration, file: &Path) -> io::Result<()> {
        let file = file.to_owned();
        let bare = tokio::task::spawn_blocking(move || copy_and_open(&file)).await;
        let bare = bare.map_err(io::Error::other)??;
        self.reloads.add(reload.as_secs_f64() * 1e3);
        self.bare.add(bare.as_secs_f64() * 1e3);
        Ok(())
    }
}

/// Does it in a folder of its own, which is where the host's copies are, and gives what it took.
/// The copy is closed and removed.
fn copy_and_open(file: &Path) -> io::Result<Duration> {
    let folder = tempfile::Builder::new().prefix("ksi-soak-bare-").tempdir()?;
    let copy = folder.path().join("copy.so");
    // On a thread that ends with it: what a library does in a thread when it is opened keeps it
    // mapped for as long as that lives.
    let work = move || {
        let began = Instant::now();
        fs::copy(file, &copy)?;
        let library = open(&copy)?;
        let took = began.elapsed();
        library.close().map_err(io::Error::other)?;
        Ok(took)
    };
    let panicked = || io::Error::other("opening a copy panicked");
    thread::scope(|scope| scope.spawn(work).join().map_err(|_| panicked()))?
}

#[expect(unsafe_code, reason = "opening a library runs its constructors")]
fn open(library: &Path) -> io::Result<Library> {
    // SAFETY: it is a build of ksi-soak-plugin, whose constructors need nothing, and which the host
    // has opened before. Nothing in it is called.
    unsafe { Library::new(library) }.map_err(io::Error::other)
}
