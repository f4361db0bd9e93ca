//! A small disk that one server sees alone, to be filled: memory, in a mount namespace that ends with the test.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::postgres_own::is_root;

/// What a new server needs is half of it.
const SIZE: &str = "size=128m";

pub(crate) struct Disk {
    /// A shell that waits for its input to end, and keeps the namespace until then.
    holder: Child,
    place: PathBuf,
}

impl Disk {
    /// Mounts one over this folder, for its owner. `None` where that cannot be done here; says so.
    pub(crate) fn over(place: &Path) -> Option<Self> {
        let mut command = Command::new("unshare");
        command.arg("--mount").args(if is_root() { &[][..] } else { &["--user", "--map-current-user", "--keep-caps"] });
        let script = "mount -t tmpfs -o $2,mode=700,uid=$(stat -c %u \"$1\") small \"$1\" && echo ready && read -r _";
        command.args(["sh", "-c", script, "sh"]).arg(place).arg(SIZE);
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let disk = Self { holder, place: place.to_owned() };
        if said != "ready\n" {
            println!("\n=== NOT TESTED: there can be no mount namespaces here ===\n");
            return None;
        }
        Some(disk)
    }

    /// How a program is started that is to see it; the program's name comes next.
    pub(crate) fn entering(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.holder.id().to_string()]);
        command.args(if is_root() { &[][..] } else { &["--user", "--preserve-credentials"] });
        command
    }

    /// The same file, for who does not see the disk.
    pub(crate) fn seen(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(path.strip_prefix("/").unwrap())
    }

    fn ballast(&self) -> PathBuf {
        self.seen(&self.place).join("ballast")
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        let block = vec![1; 64 * 1024];
        let full = std::iter::repeat_with(|| ballast.write_all(&block)).find_map(Result::err);
        assert_eq!(full.map(|error| error.kind()), Some(ErrorKind::StorageFull));
    }

    /// Gives it back.
    pub(crate) fn clear(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
