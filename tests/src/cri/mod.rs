//! What the kubelet does: pods and their containers, by CRI.

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
