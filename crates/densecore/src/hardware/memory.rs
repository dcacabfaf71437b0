//! Memory of the machine and of the control group, read live.

use std::fs;
use std::path::Path;

use super::cgroup;
use crate::error::{Error, Result};

/// Memory this process may use (bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What the machine has, or the tightest cap over this process.
    pub total: u64,
    /// What can be taken now without swapping: free pages and clean pages of files.
    pub available: u64,
}

impl Memory {
    /// A system that does not say (no `/proc`): nothing is known, so nothing is refused.
    const UNKNOWN: Self = Self { total: 0, available: u64::MAX };

    /// Whether the system told anything.
    pub fn is_known(self) -> bool {
        self != Self::UNKNOWN
    }
}

/// Reads the memory of this moment; two readings seldom agree.
pub fn memory() -> Memory {
    memory_under(Path::new("/"))
}

fn memory_under(root: &Path) -> Memory {
    let Ok(text) = fs::read_to_string(root.join("proc/meminfo")) else {
        return Memory::UNKNOWN;
    };
    let bytes = |key: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        kib.checked_mul(1024)
    };
    // Kernels before 3.14 have no estimate; free memory is the careful stand-in.
    let available = bytes("MemAvailable:").or_else(|| bytes("MemFree:"));
    let (Some(total), Some(available)) = (bytes("MemTotal:"), available) else {
        return Memory::UNKNOWN;
    };
    cgroup::memory_caps(root).iter().fold(Memory { total, available }, |memory, cap| Memory {
        total: memory.total.min(cap.limit),
        available: memory.available.min(cap.limit.saturating_sub(cap.used)),
    })
}

/// Refuses early what cannot fit into the memory that is free now.
pub fn require(what: &str, needed: u64, remedy: &str) -> Result<()> {
    require_below(what, needed, None, remedy)
}

/// The same, with a cap of the caller's own beside it (bytes).
pub fn require_below(what: &str, needed: u64, cap: Option<u64>, remedy: &str) -> Result<()> {
    let memory = memory();
    let machine = if memory.is_known() { memory.available } else { u64::MAX };
    let available = cap.unwrap_or(u64::MAX).min(machine);
    if needed > available {
        return Err(Error::Memory {
            what: what.into(),
            needed: needed.div_ceil(1 << 20),
            available: available >> 20,
            remedy: remedy.into(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fake::Root;
    use super::*;

    const MIB: u64 = 1 << 20;
    /// 4,000 MiB, of which 3,000 available.
    const MEMINFO: &str = "MemTotal:        4096000 kB\nMemFree:          512000 kB\nMemAvailable:    3072000 kB\n";

    #[test]
    fn the_machine_alone() {
        let root = Root::new("machine");
        root.file("proc/meminfo", MEMINFO);
        let memory = memory_under(root.path());
        assert_eq!(memory.total, 4000 * MIB);
        assert_eq!(memory.available, 3000 * MIB);
        assert!(memory.is_known());
    }

    #[test]
    fn an_old_kernel_counts_free_pages_only() {
        let root = Root::new("old");
        root.file("proc/meminfo", "MemTotal: 4096000 kB\nMemFree: 512000 kB\n");
        assert_eq!(memory_under(root.path()).available, 500 * MIB);
    }

    #[test]
    fn no_proc_means_unknown() {
        let root = Root::new("none");
        assert!(!memory_under(root.path()).is_known());
        root.file("proc/meminfo", "MemTotal: many kB\n");
        assert!(!memory_under(root.path()).is_known());
    }

    #[test]
    fn a_version_2_cap_less_what_cannot_be_dropped() {
        let root = Root::new("v2");
        root.file("proc/meminfo", MEMINFO)
            .file("proc/self/cgroup", "0::/jobs/one\n")
            .file("sys/fs/cgroup/jobs/one/memory.max", "1048576000\n") // 1,000 MiB
            .file("sys/fs/cgroup/jobs/one/memory.current", "629145600\n") // 600 MiB
            .file(
                "sys/fs/cgroup/jobs/one/memory.stat",
                "anon 1\ninactive_file 104857600\nactive_file 209715200\n", // 100 and 200 MiB
            );
        let memory = memory_under(root.path());
        assert_eq!(memory.total, 1000 * MIB);
        assert_eq!(memory.available, 700 * MIB);
    }

    #[test]
    fn the_tightest_group_above_counts() {
        let root = Root::new("above");
        root.file("proc/meminfo", MEMINFO)
            .file("proc/self/cgroup", "0::/jobs/one\n")
            .file("sys/fs/cgroup/jobs/memory.max", "524288000\n") // 500 MiB
            .file("sys/fs/cgroup/jobs/memory.current", "0\n")
            .file("sys/fs/cgroup/jobs/one/memory.max", "max\n")
            .file("sys/fs/cgroup/jobs/one/memory.current", "0\n");
        assert_eq!(memory_under(root.path()).available, 500 * MIB);
    }

    #[test]
    fn a_version_1_cap_and_its_value_for_none() {
        let root = Root::new("v1");
        root.file("proc/meminfo", MEMINFO)
            .file("proc/self/cgroup", "5:cpu,memory:/job\n0::/\n")
            .file("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
            .file("sys/fs/cgroup/memory/memory.usage_in_bytes", "1\n")
            .file(
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes",
                "2097152000\n", // 2,000 MiB
            )
            .file(
                "sys/fs/cgroup/memory/job/memory.usage_in_bytes",
                "1048576000\n", // 1,000 MiB
            )
            .file(
                "sys/fs/cgroup/memory/job/memory.stat",
                "inactive_file 1\ntotal_inactive_file 104857600\n", // children included: 100 MiB
            );
        let memory = memory_under(root.path());
        assert_eq!(memory.total, 2000 * MIB);
        assert_eq!(memory.available, 1100 * MIB);
    }

    #[test]
    fn a_container_that_shows_the_hosts_path() {
        let root = Root::new("container");
        root.file("proc/meminfo", MEMINFO)
            .file("proc/self/cgroup", "0::/../docker/abc\n")
            .file("sys/fs/cgroup/memory.max", "104857600\n") // 100 MiB
            .file("sys/fs/cgroup/memory.current", "209715200\n"); // over its cap for a moment
        let memory = memory_under(root.path());
        assert_eq!(memory.total, 100 * MIB);
        assert_eq!(memory.available, 0);
    }

    #[test]
    fn this_machine_answers() {
        let memory = memory();
        if memory.is_known() {
            assert!(memory.total > 0);
            assert!(memory.available <= memory.total);
        }
    }
}
