//! How the runtime is to be called: containerd's `runtimes.NAME.options`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{CodedInputStream, Message, rt};
use containerd_shim_protos::shim::oci;

/// ctr's and the Go client's, and CRI's when the runtime is runc's own shim.
const RUNC: &str = "containerd.runc.v1.Options";
/// CRI's for any other shim: the TOML table itself, or the path of a file with it.
const GENERIC: &str = "runtimeoptions.v1.Options";

/// A file of options is a few lines.
const MAX_FILE: u64 = 1 << 20;

/// Reads the options of a call; none are the defaults.
///
/// # Errors
/// Of another kind, or not decodable.
pub fn read(any: Option<&Any>) -> Result<oci::Options> {
    let Some(any) = any.filter(|any| !any.type_url.is_empty()) else { return Ok(oci::Options::new()) };
    match any.type_url.rsplit('/').next().unwrap_or_default() {
        RUNC => oci::Options::parse_from_bytes(&any.value).context("decode the runtime's options"),
        GENERIC => generic(&any.value).context("the runtime's options"),
        other => bail!("options of type {other:?}: expected {RUNC} or {GENERIC}"),
    }
}

/// `string type_url = 1; string config_path = 2; bytes config_body = 3` (api/types/runtimeoptions/v1/api.proto).
fn generic(bytes: &[u8]) -> Result<oci::Options> {
    let (mut path, mut body) = (String::new(), Vec::new());
    let mut input = CodedInputStream::from_bytes(bytes);
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        match tag {
            18 => path = input.read_string()?,
            26 => body = input.read_bytes()?,
            _ => rt::skip_field_for_tag(tag, &mut input)?,
        }
    }
    if body.is_empty() && !path.is_empty() {
        body = file(Path::new(&path)).with_context(|| format!("read {path}"))?;
    }
    table(std::str::from_utf8(&body).context("not UTF-8")?)
}

fn file(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(std::fs::File::open(path)?, MAX_FILE), &mut bytes)?;
    Ok(bytes)
}

/// A flat TOML table of strings, numbers and booleans. That is all that options are, and containerd writes it.
fn table(text: &str) -> Result<oci::Options> {
    let mut options = oci::Options::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(['#', '['])) {
        let (name, value) =
            line.split_once('=').with_context(|| format!("{line:?}: expected NAME = VALUE"))?;
        set(&mut options, name.trim().trim_matches('"'), value.trim())
            .with_context(|| format!("option {line:?}"))?;
    }
    Ok(options)
}

fn set(options: &mut oci::Options, name: &str, value: &str) -> Result<()> {
    let text = || {
        let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
        quoted('"').or_else(|| quoted('\'')).map(str::to_owned).context("expected a string")
    };
    match name {
        "NoPivotRoot" => options.no_pivot_root = value.parse()?,
        "NoNewKeyring" => options.no_new_keyring = value.parse()?,
        "ShimCgroup" => options.shim_cgroup = text()?,
        "IoUid" => options.io_uid = value.parse()?,
        "IoGid" => options.io_gid = value.parse()?,
        "BinaryName" => options.binary_name = text()?,
        "Root" => options.root = text()?,
        "SystemdCgroup" => options.systemd_cgroup = value.parse()?,
        "CriuImagePath" => options.criu_image_path = text()?,
        "CriuWorkPath" => options.criu_work_path = text()?,
        // Of other shims, or of a later containerd.
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(kind: &str, value: Vec<u8>) -> Any {
        Any { type_url: kind.to_owned(), value, ..Default::default() }
    }

    #[test]
    fn runcs_options_and_those_of_cri_mean_the_same() {
        let mut wanted = oci::Options::new();
        wanted.binary_name = "/usr/bin/crun".to_owned();
        wanted.systemd_cgroup = true;
        wanted.io_uid = 1000;
        let direct = any(RUNC, wanted.write_to_bytes().unwrap());
        assert_eq!(read(Some(&direct)).unwrap(), wanted);

        let toml = "BinaryName = \"/usr/bin/crun\"\nSystemdCgroup = true\n  IoUid = 1000\n\n# a comment\n\
                    TaskApiVersion = 3\n";
        let mut bytes = vec![26, toml.len() as u8];
        bytes.extend(toml.as_bytes());
        let url = format!("types.example/{GENERIC}");
        assert_eq!(read(Some(&any(&url, bytes))).unwrap(), wanted);
    }

    #[test]
    fn bad_options_are_errors_and_none_are_the_defaults() {
        assert_eq!(read(None).unwrap(), oci::Options::new());
        assert_eq!(read(Some(&any("", vec![]))).unwrap(), oci::Options::new());
        assert!(read(Some(&any("windows.Options", vec![]))).is_err());
        assert!(read(Some(&any(RUNC, vec![0xff]))).is_err());
        assert!(table("SystemdCgroup = maybe").is_err());
        assert!(table("BinaryName = crun").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_options_or_an_error(bytes: Vec<u8>, kind in 0usize..2) {
            let _ = read(Some(&any([RUNC, GENERIC][kind], bytes)));
        }

        #[test]
        fn any_table_is_options_or_an_error(text in "([A-Za-z]{0,9}[ =\"'#\\[]{0,3}[a-z0-9\"]{0,5}\n?){0,9}") {
            let _ = table(&text);
        }
    }
}
