//! buildah in a sandbox, with a store of its own.

use super::documented::{arguments, write};
use super::{IMAGE, Sandbox, pack};
use crate::Outcome;

/// A store with a working container of the image, named `box`. All that it has is removed on drop.
#[derive(Debug)]
pub struct Buildah {
    sandbox: Sandbox,
}

impl Buildah {
    /// Loads the image into a new store.
    pub fn new() -> Self {
        let buildah = Self { sandbox: Sandbox::new() };
        let archive = pack(buildah.sandbox.path());
        buildah.call(&["from", "--name", "box", &format!("oci-archive:{}", archive.display())]).ok();
        buildah.call(&["commit", "--quiet", "box", IMAGE]).ok();
        buildah
    }

    /// A call, to its end.
    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Outcome {
        let mut command = self.sandbox.command("buildah");
        for (flag, name) in [("root", "root"), ("runroot", "run.buildah")] {
            command.arg(format!("--{flag}")).arg(self.sandbox.file(name));
        }
        command.args(args);
        self.sandbox.finish(command)
    }

    /// `buildah run FLAGS box COMMAND` with the runtime under test.
    #[track_caller]
    pub fn run(&self, flags: &[&str], command: &[&str]) -> Outcome {
        self.with_runtime("run", &[flags, &["box", "--"], command].concat())
    }

    /// `buildah build` of a Containerfile with the runtime under test.
    #[track_caller]
    pub fn build(&self, containerfile: &str, flags: &[&str]) -> Outcome {
        let file = self.sandbox.file("Containerfile");
        write(&file, containerfile);
        let [file, directory] =
            [file.as_path(), self.sandbox.path()].map(|path| path.to_str().expect("a UTF-8 path"));
        self.with_runtime("build", &[flags, &["--file", file, directory]].concat())
    }

    /// A verb with the flags that are documented for `run`.
    #[track_caller]
    fn with_runtime(&self, verb: &str, args: &[&str]) -> Outcome {
        let documented = arguments("buildah run ");
        let documented: Vec<_> = documented.iter().map(String::as_str).collect();
        self.call(&[&[verb], &documented[..], args].concat())
    }
}

impl Default for Buildah {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        self.call(&["rm", "--all"]);
        self.sandbox.close(&[]);
    }
}
