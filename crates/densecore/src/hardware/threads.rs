//! Threads this process may run at once, and the cores behind them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Threads worth starting: the affinity mask and the control group's quota are respected, and there is always one.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Physical cores among the processors this process may run on, where the system says.
///
/// Two hyper-threads of one core count once. A quota does not lower this number; see [`threads`].
pub fn cores() -> Option<usize> {
    cores_under(Path::new("/"))
}

/// The processor's name, where the system says.
pub fn cpu_name() -> Option<String> {
    cpu_name_under(Path::new("/"))
}

fn cores_under(root: &Path) -> Option<usize> {
    let status = fs::read_to_string(root.join("proc/self/status")).ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut cores = BTreeSet::new();
    for cpu in parse_list(list.trim())? {
        let topology = root.join(format!("sys/devices/system/cpu/cpu{cpu}/topology"));
        let id = |name: &str| -> Option<i64> {
            let text = fs::read_to_string(topology.join(name)).ok()?;
            text.trim().parse().ok()
        };
        cores.insert((id("physical_package_id")?, id("core_id")?));
    }
    (!cores.is_empty()).then_some(cores.len())
}

/// "0-3,8" as numbers; none when it is not such a list or names more processors than any machine has.
fn parse_list(list: &str) -> Option<Vec<u32>> {
    const MOST: usize = 1 << 16;
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last.checked_sub(first)? as usize >= MOST - cpus.len() {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

fn cpu_name_under(root: &Path) -> Option<String> {
    let text = fs::read_to_string(root.join("proc/cpuinfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("model name"))?;
    let name = line.trim_start().strip_prefix(':')?.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::fake::Root;
    use super::*;

    fn two_hyper_threads_a_core(root: &Root) {
        for cpu in 0..4 {
            let folder = format!("sys/devices/system/cpu/cpu{cpu}/topology");
            root.file(&format!("{folder}/physical_package_id"), "0\n")
                .file(&format!("{folder}/core_id"), &format!("{}\n", cpu / 2));
        }
    }

    #[test]
    fn hyper_threads_share_a_core() {
        let root = Root::new("smt");
        two_hyper_threads_a_core(&root);
        root.file("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-3\n");
        assert_eq!(cores_under(root.path()), Some(2));
    }

    #[test]
    fn the_affinity_mask_counts() {
        let root = Root::new("mask");
        two_hyper_threads_a_core(&root);
        root.file("proc/self/status", "Cpus_allowed_list:\t1,2\n");
        assert_eq!(cores_under(root.path()), Some(2));
        root.file("proc/self/status", "Cpus_allowed_list:\t2-3\n");
        assert_eq!(cores_under(root.path()), Some(1));
    }

    #[test]
    fn silence_is_not_a_number() {
        let root = Root::new("silent");
        assert_eq!(cores_under(root.path()), None);
        root.file("proc/self/status", "Cpus_allowed_list:\t0-7\n");
        assert_eq!(cores_under(root.path()), None);
        assert_eq!(cpu_name_under(root.path()), None);
    }

    #[test]
    fn lists() {
        assert_eq!(parse_list("0"), Some(vec![0]));
        assert_eq!(parse_list("0-2,7"), Some(vec![0, 1, 2, 7]));
        assert_eq!(parse_list("3-1"), None);
        assert_eq!(parse_list("0-4294967295"), None);
        assert_eq!(parse_list("all"), None);
        assert_eq!(parse_list(""), None);
    }

    #[test]
    fn the_name_of_the_processor() {
        let root = Root::new("name");
        root.file("proc/cpuinfo", "processor\t: 0\nmodel name\t: Abacus 3000\nmodel name\t: Abacus 3000\n");
        assert_eq!(cpu_name_under(root.path()).as_deref(), Some("Abacus 3000"));
    }

    #[test]
    fn there_is_always_a_thread() {
        assert!(threads() >= 1);
    }
}
