//! Where peers run that cannot do with this host as it is.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use crate::eventually;

/// A mount namespace where cgroup v2 is not to be seen and /dev/null is its own: crun refuses a hybrid tree,
/// and has been seen to change the mode of the null device.
pub struct LegacyNamespace {
    holder: Child,
}

impl LegacyNamespace {
    /// Make it.
    pub fn new() -> Self {
        let set_up = "mount --make-rprivate /; umount /sys/fs/cgroup/unified 2>/dev/null; \
                      mount -t tmpfs none /mnt && mknod -m 666 /mnt/null c 1 3 && \
                      mount --bind /mnt/null /dev/null; exec sleep 100000";
        let holder = Command::new("unshare")
            .args(["-m", "sh", "-c", set_up])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start unshare");
        let pid = holder.id();
        eventually("the namespace is set up", || {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim() == "sleep")
        });
        Self { holder }
    }

    /// The namespace, to be entered.
    pub fn file(&self) -> File {
        File::open(format!("/proc/{}/ns/mnt", self.holder.id())).expect("open the namespace")
    }
}

impl Default for LegacyNamespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for LegacyNamespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
