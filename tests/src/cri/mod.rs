//! The kubelet's side of CRI: it makes pods and containers on a [`Node`](crate::engines::Node), reads their logs, and opens
//! their streams.

mod calls;
mod log;
mod pod;
mod stream;

pub use calls::{Cri, RpcResult};
/// CRI's messages.
pub use k8s_cri::v1 as messages;
pub use log::{Line, lines};
pub use pod::{Pod, container_config, pod_config};
pub use stream::{Channel, Stream};
pub use tonic::Code;
