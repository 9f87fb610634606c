//! The calls of CRI, one at a time, each over a connection of its own: they go on when containerd was started again.

use crate::patience;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::*;
use std::path::PathBuf;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

/// What a call gives: an answer, or a code and words.
pub type RpcResult<T> = Result<T, Status>;

/// The socket of a server of CRI.
#[derive(Debug, Clone)]
pub struct Cri(PathBuf);

impl Cri {
    /// The server that listens there.
    pub fn at(socket: PathBuf) -> Self {
        Self(socket)
    }

    fn call<T, F>(&self, call: impl FnOnce(Channel) -> F) -> RpcResult<T>
    where
        F: Future<Output = RpcResult<Response<T>>>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let endpoint = Endpoint::from_shared(format!("unix://{}", self.0.display())).expect("a path");
        runtime.expect("start tokio").block_on(async {
            // 2 minutes where nothing is slow, as the kubelet has it.
            let channel = endpoint.timeout(6 * patience()).connect().await;
            let channel = channel.map_err(|e| Status::unavailable(format!("connect: {e}")))?;
            call(channel).await.map(Response::into_inner)
        })
    }
}

/// A method for each call: its name, what it takes, what it gives.
macro_rules! calls {
    ($client:ident: $($(#[$doc:meta])* $name:ident($request:ty) -> $answer:ty;)*) => {
        impl Cri {
            $($(#[$doc])*
            ///
            /// # Errors
            /// The server's own.
            pub fn $name(&self, request: $request) -> RpcResult<$answer> {
                self.call(|channel| async {
                    $client::new(channel).$name(Request::new(request)).await
                })
            })*
        }
    };
}

calls! { RuntimeServiceClient:
    /// Whether it is ready, and its network.
    status(StatusRequest) -> StatusResponse;
    /// Makes a pod.
    run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse;
    /// Ends all in a pod, and its network.
    stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse;
    /// Removes a pod and all in it.
    remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse;
    /// A pod's state and addresses.
    pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse;
    /// Pods.
    list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse;
    /// What a pod uses.
    pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse;
    /// Makes a container.
    create_container(CreateContainerRequest) -> CreateContainerResponse;
    /// Starts it.
    start_container(StartContainerRequest) -> StartContainerResponse;
    /// Asks it to end, and ends it after a time.
    stop_container(StopContainerRequest) -> StopContainerResponse;
    /// Removes it.
    remove_container(RemoveContainerRequest) -> RemoveContainerResponse;
    /// Containers.
    list_containers(ListContainersRequest) -> ListContainersResponse;
    /// A container's state and exit code.
    container_status(ContainerStatusRequest) -> ContainerStatusResponse;
    /// Sets its limits.
    update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
    /// What it uses.
    container_stats(ContainerStatsRequest) -> ContainerStatsResponse;
    /// What all use.
    list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse;
    /// Has a log that was moved away be written anew.
    reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse;
    /// Runs a command in a container to its end: a probe.
    exec_sync(ExecSyncRequest) -> ExecSyncResponse;
    /// Where to run a command with streams.
    exec(ExecRequest) -> ExecResponse;
    /// Where a container's streams are.
    attach(AttachRequest) -> AttachResponse;
    /// Where a pod's ports are.
    port_forward(PortForwardRequest) -> PortForwardResponse;
}

calls! { ImageServiceClient:
    /// An image, if it is there.
    image_status(ImageStatusRequest) -> ImageStatusResponse;
}
