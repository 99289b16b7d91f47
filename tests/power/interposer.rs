//! The interposer of system calls, `disk.c`: how it is built, preloaded and asked.

use std::{
    env,
    ffi::OsStr,
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

const CONTROL: &str = "/mst-disk-control";
const CONTROL_VARIABLE: &str = "MST_DISK_CONTROL";

/// Builds the interposer into `folder`.
pub fn build(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power/disk.c");
    let library = folder.join("disk.so");
    let mut cc = Command::new(env::var_os("CC").as_deref().unwrap_or(OsStr::new("cc")));
    cc.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-o"]);
    cc.arg(&library).arg(source).args(["-ldl", "-lpthread"]);
    let status = cc.status().expect("a C compiler, `cc`");
    assert!(status.success(), "the interposer is not built");
    library
}

/// This program with the interposer.
pub fn interposed(library: &Path) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command
        .env("LD_PRELOAD", library)
        .env(CONTROL_VARIABLE, CONTROL);
    command
}

/// What the interposer counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Calls of the kind that is to fail.
    pub calls: u64,
    pub failed: u64,
    pub syncs: u64,
}

/// Which calls are to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Writes, with EIO.
    Write,
    /// What needs room, with ENOSPC.
    Full,
    /// Syncs, with EIO.
    Sync,
    /// Reads, with EIO.
    Read,
}

impl Fault {
    pub fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Full => "full",
            Self::Sync => "sync",
            Self::Read => "read",
        }
    }
}

/// The interposer of this process.
pub struct Interposer(File);

impl Interposer {
    pub fn of_this_process() -> Self {
        let file = File::options().read(true).write(true).open(CONTROL);
        Self(file.expect("the process was started with the interposer"))
    }

    fn ask(&self, command: &str) {
        (&self.0).write_all(command.as_bytes()).expect("it obeys");
    }

    /// Records what happens below `folder`, from now on.
    pub fn record(&self, folder: &Path, to: &Path) {
        self.ask(&format!("record {} {}", folder.display(), to.display()));
    }

    pub fn mark(&self, text: &str) {
        self.ask(&format!("mark {text}"));
    }

    /// Ends this process as by SIGKILL, its other threads where they are, but between two calls: each call
    /// that was made is recorded.
    pub fn kill(&self) -> ! {
        self.ask("kill");
        unreachable!("the process is killed")
    }

    /// From the call of this number on, those of its kind fail below `folder`.
    pub fn fail(&self, folder: &Path, fault: Fault, number: u64) {
        let (folder, fault) = (folder.display(), fault.name());
        self.ask(&format!("fail {folder} {fault} {number}"));
    }

    /// Syncs below `folder` take longer.
    pub fn slow(&self, folder: &Path, millis: u64) {
        self.ask(&format!("slow {} {millis}", folder.display()));
    }

    /// Syncs below `folder` do not end before [`stop`](Self::stop).
    pub fn hold(&self, folder: &Path) {
        self.ask(&format!("hold {}", folder.display()));
    }

    pub fn stop(&self) {
        self.ask("stop");
    }

    pub fn counted(&self) -> Counted {
        let mut text = [0; 80];
        let length = (&self.0).read(&mut text).expect("it tells");
        let text = std::str::from_utf8(&text[..length]).expect("text");
        let mut numbers = text
            .split(' ')
            .map(|number| number.parse().expect("a number"));
        let mut next = || numbers.next().expect("three numbers");
        Counted {
            calls: next(),
            failed: next(),
            syncs: next(),
        }
    }
}
