//! What an image is, for a person or a program.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use interface::line::one_line;
use serde_json::{Value, json};

use crate::image::{self, Image};
use crate::source::Source;

/// Every image of a source, as text.
pub fn text(path: &Path) -> Result<String> {
    let mut text = String::new();
    for image in images(path)? {
        let _ = writeln!(text, "{}", one_line(&image.to_string()));
        let config = image.configuration.config().clone().unwrap_or_default();
        let mut line = |name: &str, value: String| {
            if !value.is_empty() {
                let _ = writeln!(text, "  {name:<12} {}", one_line(&value));
            }
        };
        line("created", image.configuration.created().clone().unwrap_or_default());
        line("entrypoint", words(config.entrypoint()));
        line("cmd", words(config.cmd()));
        for pair in config.env().iter().flatten() {
            line("env", pair.clone());
        }
        line("user", config.user().clone().unwrap_or_default());
        line("workdir", config.working_dir().clone().unwrap_or_default());
        line("volumes", words(config.volumes()));
        line("ports", words(config.exposed_ports()));
        line("stop signal", config.stop_signal().clone().unwrap_or_default());
        let mut labels: Vec<_> = config.labels().iter().flatten().collect();
        labels.sort();
        for (key, value) in labels {
            line("label", format!("{key}={value}"));
        }
        for layer in &image.layers {
            line("layer", format!("{} {}", size(layer.size), layer.name));
        }
    }
    Ok(text)
}

/// The same as JSON: a list of images.
pub fn json(path: &Path) -> Result<Value> {
    images(path)?
        .iter()
        .map(|image| {
            let layers = image.layers.iter().map(|layer| {
            json!({ "digest": layer.name, "size": layer.size, "diffID": layer.diff_id.to_string() })
        });
            Ok(json!({
                "names": image.names,
                "platform": image.platform(),
                "layers": layers.collect::<Vec<_>>(),
                "config": serde_json::to_value(&image.configuration)?,
            }))
        })
        .collect()
}

fn images(path: &Path) -> Result<Vec<Image>> {
    Source::open(path).and_then(|source| image::all(&source)).with_context(|| path.display().to_string())
}

fn words(list: &Option<Vec<String>>) -> String {
    let quote = |word: &String| {
        if word.is_empty() || word.contains([' ', '"']) { format!("{word:?}") } else { word.clone() }
    };
    list.iter().flatten().map(quote).collect::<Vec<_>>().join(" ")
}

fn size(bytes: u64) -> String {
    match bytes {
        0 => "       ?".to_owned(),
        1..=999_999 => format!("{:>5.1} kB", bytes as f64 / 1e3),
        _ => format!("{:>5.1} MB", bytes as f64 / 1e6),
    }
}
