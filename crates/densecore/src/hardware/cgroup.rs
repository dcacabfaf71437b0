//! The memory left by the control groups a process lives in.

use std::fs;
use std::path::{Path, PathBuf};

/// One group that caps memory (bytes).
pub(super) struct Cap {
    /// The most the group may hold.
    pub limit: u64,
    /// What it holds now and cannot give back by dropping clean pages of files.
    pub used: u64,
}

/// File names of one version of the interface.
struct Names {
    limit: &'static str,
    usage: &'static str,
    /// Entries of `memory.stat` that count pages of files, for the group with its children.
    file_pages: [&'static str; 2],
}

const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    file_pages: ["total_inactive_file", "total_active_file"],
};
const V2: Names = Names { limit: "memory.max", usage: "memory.current", file_pages: ["inactive_file", "active_file"] };

/// Every cap that applies to this process: its own group's and those of all groups above it.
pub(super) fn memory_caps(root: &Path) -> Vec<Cap> {
    let mount = root.join("sys/fs/cgroup");
    let membership = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut caps = Vec::new();
    for line in membership.lines() {
        // "4:memory:/path" in version 1 (several controllers may share a number), "0::/path" in version 2.
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
            continue;
        };
        if controllers.split(',').any(|name| name == "memory") {
            collect(&mount.join("memory"), group, &V1, &mut caps);
        } else if controllers.is_empty() {
            collect(&mount, group, &V2, &mut caps);
            collect(&mount.join("unified"), group, &V2, &mut caps);
        }
    }
    caps
}

fn collect(mount: &Path, group: &str, names: &Names, caps: &mut Vec<Cap>) {
    // Inside a container the path is often the host's and does not exist here; the mount itself is then the group.
    // A path that leads out of the mount ("/../sibling") is not ours to read.
    let mut folder = PathBuf::new();
    let mut folders = vec![mount.to_path_buf()];
    for part in group.split('/').filter(|part| !part.is_empty()) {
        if part == ".." {
            break;
        }
        folder.push(part);
        folders.push(mount.join(&folder));
    }
    caps.extend(folders.iter().filter_map(|folder| cap(folder, names)));
}

fn cap(folder: &Path, names: &Names) -> Option<Cap> {
    let number = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        text.trim().parse().ok() // "max" means no cap
    };
    let limit = number(names.limit)?;
    let usage = number(names.usage)?;
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let file_pages: u64 = stat
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(key, _)| names.file_pages.contains(key))
        .filter_map(|(_, value)| value.trim().parse::<u64>().ok())
        .sum();
    Some(Cap { limit, used: usage.saturating_sub(file_pages) })
}
