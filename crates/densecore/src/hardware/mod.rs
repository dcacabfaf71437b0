//! What this machine gives the process: memory now, threads it may use, the processor's name.
//!
//! A container seldom owns the whole machine, so every number here is the smaller of what the machine has and what
//! the control groups (version 1 and 2) and the affinity mask leave. Everything is read live from text files of the
//! kernel, without `unsafe` and without starting a program. Each reader takes the root of the file system, so tests
//! put a folder of made-up files in its place.

mod cgroup;
pub mod memory;
pub mod threads;

pub use memory::{Memory, memory, require, require_below};
pub use threads::{cores, cpu_name, threads};

/// The kernels in use: "avx512", "avx2" or "portable".
pub fn tier() -> &'static str {
    densecore_kernels::Tier::detect().name()
}

/// Processor features that matter to the kernels.
pub fn features() -> Vec<&'static str> {
    densecore_kernels::cpu::features()
}

#[cfg(test)]
mod fake {
    //! A folder standing in for `/`.
    use std::path::{Path, PathBuf};

    /// Removed when dropped.
    pub struct Root(PathBuf);

    impl Root {
        /// An empty root; `name` keeps tests of one process apart.
        pub fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("densecore-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).expect("the temporary folder is writable");
            Self(path)
        }

        /// Writes one file, with its folders.
        pub fn file(&self, path: &str, text: &str) -> &Self {
            let path = self.0.join(path);
            let folder = path.parent().expect("the path has a folder");
            std::fs::create_dir_all(folder).expect("the temporary folder is writable");
            std::fs::write(path, text).expect("the temporary folder is writable");
            self
        }

        pub fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
