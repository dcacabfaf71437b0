//! Opens a model's files: regular files and nothing else.
//!
//! A name in a model's folder may be a link to a device, a pipe or a folder. Opening or reading those may block, never
//! end, or do something. So nothing is opened that is not a regular file by name, the open itself cannot block, what was
//! opened is looked at again, and reading stops at a cap, whatever length the file claims.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::error::{Error, Result};

/// Opens a regular file. A name for anything else is refused by what it is.
pub fn open(path: &Path) -> Result<(File, Metadata)> {
    let failed = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => Error::NotFound {
            path: path.into(),
            detail: "the file does not exist; check the path, or pull the model (again) first".into(),
        },
        _ => Error::io("opening", path, source),
    };
    regular(path, &std::fs::metadata(path).map_err(failed)?)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    // The name may stand for something else by now.
    regular(path, &facts)?;
    Ok((file, facts))
}

/// Reads a file whole. One that is longer than `cap`, or becomes so while it is read, is refused.
pub fn read(path: &Path, cap: u64) -> Result<Vec<u8>> {
    let (file, facts) = open(path)?;
    let mut bytes = Vec::new();
    if facts.len() <= cap {
        file.take(cap.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| Error::io("reading", path, error))?;
    }
    let size = facts.len().max(bytes.len() as u64);
    if size > cap {
        return Err(Error::Limit {
            what: format!("the size of {} in bytes", path.display()),
            value: size,
            cap,
            remedy: "a genuine file is far smaller; fetch the model again".into(),
        });
    }
    Ok(bytes)
}

/// Like [`read`]; `None` where there is nothing of that name. A link to nothing is an error.
pub fn read_if_there(path: &Path, cap: u64) -> Result<Option<Vec<u8>>> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        _ => read(path, cap).map(Some),
    }
}

fn regular(path: &Path, facts: &Metadata) -> Result<()> {
    if facts.is_file() {
        return Ok(());
    }
    Err(Error::NotFound {
        path: path.into(),
        detail: format!(
            "it is {}, not a regular file; give the model's file or its folder, or fetch the model again",
            kind(facts.file_type())
        ),
    })
}

fn kind(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
        if kind.is_fifo() {
            return "a named pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
    }
    if kind.is_dir() { "a folder" } else { "something else" }
}
