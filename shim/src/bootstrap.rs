//! The parameters of `start`, and its response: containerd has two protocols.
//!
//! Up to containerd 2.2, stdin holds the runtime's options (`google.protobuf.Any`), everything else comes in flags and
//! the environment, and the response is the shim's address as text. Since 2.3, stdin holds `BootstrapParams`, and the
//! response is a `BootstrapResult`. Nothing says which it is, and either may decode as the other by accident: both begin
//! with a text. So parameters are believed only when they repeat what the flags say.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;

use crate::flags::Flags;

/// More than any containerd sends.
const MAX_STDIN: u64 = 10 << 20;

/// The version of the task service that everything since 1.6 speaks, and the one that came with 2.0. Both are served.
const OLDER: i32 = 2;
const NEWER: i32 = 3;

/// The parameters, whichever protocol they came in.
#[derive(Debug)]
pub struct StartParams {
    protocol: Protocol,
    /// The runtime's options.
    pub options: Option<Any>,
    /// Where events go. None: nowhere.
    pub ttrpc_address: Option<String>,
    /// Where the shim's socket goes, if not at its usual place.
    pub socket_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// The response is a text; if the number is more than 2, it is JSON with a version.
    Text(i32),
    Message,
}

/// Reads stdin to its end.
///
/// # Errors
/// More comes than any containerd sends.
pub fn stdin() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().take(MAX_STDIN + 1).read_to_end(&mut bytes).context("read stdin")?;
    if bytes.len() as u64 > MAX_STDIN {
        bail!("stdin holds more than {} MiB", MAX_STDIN >> 20);
    }
    Ok(bytes)
}

impl StartParams {
    /// Reads what stdin and the environment say; `variable` looks into the latter.
    ///
    /// # Errors
    /// stdin holds neither protocol's message.
    pub fn parse(
        bytes: &[u8],
        flags: &Flags,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<StartParams> {
        // Or it is the older protocol's.
        let params = BootstrapParams::parse_from_bytes(bytes).ok();
        let is_ours =
            |params: &BootstrapParams| params.instance_id == flags.id && params.namespace == flags.namespace;
        if let Some(params) = params.filter(|params| !flags.id.is_empty() && is_ours(params)) {
            let options = params.extensions.into_iter().find_map(|extension| extension.value.into_option());
            return Ok(StartParams {
                protocol: Protocol::Message,
                options,
                ttrpc_address: Some(params.containerd_ttrpc_address).filter(|address| !address.is_empty()),
                socket_dir: params.socket_dir.filter(|dir| !dir.is_empty()).map(PathBuf::from),
            });
        }
        let options = match bytes {
            [] => None,
            bytes => Some(Any::parse_from_bytes(bytes).context("stdin holds no message of containerd's")?),
        };
        let newest = variable("MAX_SHIM_VERSION").and_then(|text| text.parse().ok()).unwrap_or(OLDER);
        Ok(StartParams {
            protocol: Protocol::Text(newest),
            options,
            ttrpc_address: variable("TTRPC_ADDRESS").filter(|address| !address.is_empty()),
            socket_dir: None,
        })
    }

    /// The response, in the protocol of the parameters. (1.6 knows no JSON, and 1.7 to 2.2 take the text too.)
    pub fn response(&self, address: &str) -> Result<Vec<u8>> {
        Ok(match self.protocol {
            Protocol::Text(..NEWER) => address.into(),
            Protocol::Text(_) => {
                let response =
                    serde_json::json!({ "version": NEWER, "address": address, "protocol": "ttrpc" });
                response.to_string().into()
            }
            Protocol::Message => BootstrapResult {
                version: NEWER,
                address: address.to_owned(),
                protocol: "ttrpc".to_owned(),
                ..Default::default()
            }
            .write_to_bytes()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim_protos::bootstrap_api::Extension;
    use containerd_shim_protos::protobuf::MessageField;
    use proptest::prelude::*;

    const TTRPC: &str = "/run/containerd/containerd.sock.ttrpc";

    fn flags() -> Flags {
        let line = "-namespace k8s.io -id web -address /run/containerd/containerd.sock start";
        Flags::parse(line.split(' ').map(Into::into)).unwrap()
    }

    fn options() -> Any {
        Any { type_url: "containerd.runc.v1.Options".into(), value: vec![72, 1], ..Default::default() }
    }

    fn environment(newest: Option<&str>) -> impl Fn(&str) -> Option<String> {
        move |name| match name {
            "TTRPC_ADDRESS" => Some(TTRPC.to_owned()),
            "MAX_SHIM_VERSION" => newest.map(str::to_owned),
            _ => None,
        }
    }

    #[test]
    fn containerd_1_6_to_2_2_send_options_and_get_a_text() {
        let bytes = options().write_to_bytes().unwrap();
        for newest in [None, Some("2")] {
            let start = StartParams::parse(&bytes, &flags(), environment(newest)).unwrap();
            assert_eq!(start.options, Some(options()));
            assert_eq!(start.ttrpc_address.as_deref(), Some(TTRPC));
            assert_eq!(start.response("unix:///s").unwrap(), b"unix:///s");
        }
        let start = StartParams::parse(&[], &flags(), environment(Some("3"))).unwrap();
        assert_eq!(start.options, None);
        let json: serde_json::Value = serde_json::from_slice(&start.response("unix:///s").unwrap()).unwrap();
        assert_eq!(json, serde_json::json!({"version": 3, "address": "unix:///s", "protocol": "ttrpc"}));
    }

    #[test]
    fn containerd_2_3_sends_parameters_and_gets_a_message() {
        let params = BootstrapParams {
            instance_id: "web".into(),
            namespace: "k8s.io".into(),
            containerd_ttrpc_address: "/other.ttrpc".into(),
            socket_dir: Some("/run/user/s".into()),
            extensions: vec![Extension { value: MessageField::some(options()), ..Default::default() }],
            ..Default::default()
        };
        let start =
            StartParams::parse(&params.write_to_bytes().unwrap(), &flags(), environment(Some("2"))).unwrap();
        assert_eq!(
            (start.options.as_ref(), start.socket_dir),
            (Some(&options()), Some("/run/user/s".into()))
        );
        assert_eq!(start.ttrpc_address.as_deref(), Some("/other.ttrpc"));
        let start = StartParams { socket_dir: None, ..start };
        let result = BootstrapResult::parse_from_bytes(&start.response("unix:///s").unwrap()).unwrap();
        assert_eq!(
            (result.version, result.address.as_str(), result.protocol.as_str()),
            (3, "unix:///s", "ttrpc")
        );
    }

    #[test]
    fn a_message_as_containerd_2_3_writes_it_is_understood() {
        // instance_id, namespace, containerd_version, ttrpc and grpc address, binary: fields 1, 2, 4 to 7.
        let texts =
            ["web", "k8s.io", "v2.3.4", TTRPC, "/run/containerd/containerd.sock", "/usr/bin/containerd"];
        let mut bytes = Vec::new();
        for (number, text) in [1u8, 2, 4, 5, 6, 7].into_iter().zip(texts) {
            bytes.extend([number << 3 | 2, text.len() as u8]);
            bytes.extend(text.as_bytes());
        }
        let start = StartParams::parse(&bytes, &flags(), |_| None).unwrap();
        assert_eq!((start.protocol, start.ttrpc_address.as_deref()), (Protocol::Message, Some(TTRPC)));
    }

    #[test]
    fn options_that_decode_as_parameters_are_options() {
        // Both are texts in fields 1 and 2.
        let any = Any { type_url: "web".into(), value: b"default".to_vec(), ..Default::default() };
        let bytes = any.write_to_bytes().unwrap();
        assert!(BootstrapParams::parse_from_bytes(&bytes).is_ok(), "the accident doesn't happen");
        let start = StartParams::parse(&bytes, &flags(), environment(None)).unwrap();
        assert_eq!((start.protocol, start.options), (Protocol::Text(2), Some(any)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_understood_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            if let Ok(start) = StartParams::parse(&bytes, &flags(), environment(None)) {
                prop_assert!(start.response("unix:///s").is_ok());
            }
        }

        #[test]
        fn a_message_cut_short_is_no_parameters(cut in 0usize..60) {
            let params = BootstrapParams {
                instance_id: "web".into(), namespace: "k8s.io".into(),
                containerd_ttrpc_address: TTRPC.into(), ..Default::default()
            };
            let bytes = params.write_to_bytes().unwrap();
            let cut = cut.min(bytes.len() - 1);
            if let Ok(start) = StartParams::parse(&bytes[..cut], &flags(), |_| None) {
                prop_assert!(start.ttrpc_address.is_none());
            }
        }
    }
}
