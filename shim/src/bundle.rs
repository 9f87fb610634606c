//! What the shim reads of a bundle's config.json.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// Some of a config.json. All else in it is the runtime's.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Config {
    pub annotations: HashMap<String, String>,
    process: Option<ProcessConfig>,
    linux: Linux,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ProcessConfig {
    terminal: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Linux {
    namespaces: Vec<Namespace>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    path: String,
}

impl Config {
    /// # Errors
    /// The file is missing, or is no JSON document of that shape.
    pub fn read(bundle: &Path) -> Result<Config> {
        let path = bundle.join("config.json");
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))
    }

    /// Whether its process has a terminal.
    pub fn has_terminal(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.terminal)
    }

    /// Whether it gets a PID namespace of its own: then the end of its init is the end of all its processes.
    pub fn has_own_pid_namespace(&self) -> bool {
        self.linux.namespaces.iter().any(|namespace| namespace.kind == "pid" && namespace.path.is_empty())
    }
}
