//! A plugin's file until its bytes are read: [`kind`] tells which files and [`project`] which
//! folders may be plugins, [`watch`] waits until it has settled, [`trust`] looks who else could
//! have written it, [`copy`] copies it, [`own_libraries`] brings what lies beside it for it, and
//! [`manifest`] reads what it is from its bytes. None of its code has run by then, and nothing here
//! knows events.

// What a folder says that is one,
pub(crate) mod project;
// and what kind of file it is.
pub(crate) mod kind;
use std::path::Path;

/// Whether a folder is a plugin by itself, and not a folder of plugins.
pub(crate) fn is_plugin_folder(path: &Path) -> bool {
    project::is_project(path)
}

// It has settled,
pub(crate) mod watch;
// nobody else could have written it,
pub(crate) mod trust;
// and it is copied,
pub(crate) mod copy;
// with what it brings along,
pub(in crate::plugin) mod own_libraries;
// and read.
pub(crate) mod manifest;
