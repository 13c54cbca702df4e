//! How much memory this process may have: what the machine has free, and the limits of its control group and of the groups
//! above it (version 2 and version 1). Where a platform tells nothing, nothing is said.

use std::path::{Path, PathBuf};
use underdog_train::memory::Available;

/// Limits as large as this one mean none.
const NONE: usize = 1 << 60;

/// The smallest of all limits, with what this process holds already. `root` is `/`; tests have a folder that looks like it.
pub fn available(root: &Path) -> Option<Available> {
    let status = std::fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
    let own = |key: &str| field(&status, key, 1024).unwrap_or(0);
    let machine = std::fs::read_to_string(root.join("proc/meminfo")).ok();
    let machine = machine.and_then(|text| field(&text, "MemAvailable:", 1024)).map(|free| Available {
        bytes: free + own("VmRSS:"),
        source: "memory that the machine has available".into(),
    });
    groups(root)
        .into_iter()
        .filter_map(|group| limit(&group, own("RssAnon:")))
        .chain(machine)
        .min_by_key(|a| a.bytes)
}

/// A group's folder and its kind.
struct Group {
    folder: PathBuf,
    /// File with the limit.
    limit: &'static str,
    /// Line of `memory.stat` with what processes of the group hold and cannot give back.
    held: &'static str,
}

/// The groups of this process and all groups above them. In a container the path may not exist under the mount; then those
/// above it count, the container's own at least.
fn groups(root: &Path) -> Vec<Group> {
    let lines = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mount = root.join("sys/fs/cgroup");
    let mut groups = Vec::new();
    for line in lines.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (mount, limit, held) = if controllers.is_empty() {
            (mount.clone(), "memory.max", "anon")
        } else if controllers.split(',').any(|c| c == "memory") {
            (mount.join("memory"), "memory.limit_in_bytes", "total_rss")
        } else {
            continue;
        };
        for above in Path::new(path.trim_start_matches('/')).ancestors() {
            groups.push(Group { folder: mount.join(above), limit, held });
        }
    }
    groups
}

/// What a group's limit leaves to this process, which holds `own` bytes of it.
fn limit(group: &Group, own: usize) -> Option<Available> {
    let file = group.folder.join(group.limit);
    // "max" is no number and no limit.
    let limit =
        std::fs::read_to_string(&file).ok()?.trim().parse::<usize>().ok().filter(|&limit| limit < NONE)?;
    let held = std::fs::read_to_string(group.folder.join("memory.stat")).ok();
    let held = held.and_then(|text| field(&text, group.held, 1)).unwrap_or(0);
    Some(Available {
        bytes: limit.saturating_sub(held.saturating_sub(own)),
        source: format!("limit in {}", file.display()),
    })
}

/// The number after `key` in lines like `MemAvailable:  1024 kB`, times `unit`.
fn field(text: &str, key: &str, unit: usize) -> Option<usize> {
    let mut lines = text.lines().map(str::split_whitespace);
    let value = lines.find_map(|mut words| (words.next() == Some(key)).then(|| words.next()).flatten())?;
    Some(value.parse::<usize>().ok()?.saturating_mul(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// A folder that looks like a machine with 8 GiB available.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let status = ("proc/self/status", "Name:\tx\nVmRSS:\t   51200 kB\nRssAnon:\t   40960 kB\n");
        let free = ("proc/meminfo", "MemTotal:  16777216 kB\nMemAvailable:  8388608 kB\n");
        for (name, text) in [status, free].iter().chain(files) {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    fn found(files: &[(&str, &str)]) -> (usize, String) {
        let root = machine(files);
        let found = available(root.path()).unwrap();
        (found.bytes / MIB, found.source.replace(&root.path().display().to_string(), ""))
    }

    #[test]
    fn without_a_limit_it_is_what_the_machine_has() {
        let want = (8192 + 50, "memory that the machine has available".to_string());
        assert_eq!(found(&[]), want);
        let none = "9223372036854771712\n";
        let files = [("proc/self/cgroup", "0::/a\n4:memory:/b\n"), ("sys/fs/cgroup/a/memory.max", "max\n")];
        assert_eq!(
            found(&[files[0], files[1], ("sys/fs/cgroup/memory/b/memory.limit_in_bytes", none)]),
            want
        );
    }

    #[test]
    fn the_smallest_limit_of_the_group_and_those_above_counts() {
        let own = ("proc/self/cgroup", "0::/outer/inner\n");
        let inner = ("sys/fs/cgroup/outer/inner/memory.max", "1073741824\n");
        let outer = ("sys/fs/cgroup/outer/memory.max", "536870912\n");
        assert_eq!(found(&[own, inner]), (1024, "limit in /sys/fs/cgroup/outer/inner/memory.max".into()));
        assert_eq!(found(&[own, inner, outer]), (512, "limit in /sys/fs/cgroup/outer/memory.max".into()));
        let gone = ("sys/fs/cgroup/memory.max", "268435456");
        assert_eq!(
            found(&[own, gone]),
            (256, "limit in /sys/fs/cgroup/memory.max".into()),
            "a container's own view"
        );
        let old = ("proc/self/cgroup", "7:cpu,memory:/box\n1:name=systemd:/x\n");
        let limit = ("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "314572800\n");
        assert_eq!(
            found(&[old, limit]),
            (300, "limit in /sys/fs/cgroup/memory/box/memory.limit_in_bytes".into())
        );
    }

    #[test]
    fn what_other_processes_of_the_group_hold_is_taken_off() {
        let own = ("proc/self/cgroup", "0::/g\n");
        let limit = ("sys/fs/cgroup/g/memory.max", "1073741824");
        let held = ("sys/fs/cgroup/g/memory.stat", "anon 251658240\nfile 99999999\n");
        assert_eq!(found(&[own, limit, held]).0, 1024 - (240 - 40));
    }
}
