//! Events for containerd, in the order in which things happened. When containerd is away, they wait for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use containerd_shim_protos::api::ForwardRequest;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::ttrpc::context;
use tokio::sync::Notify;

use crate::log;

/// What is kept for a containerd that is away. Without it there is nobody to make new containers or execs, so this is
/// more than the ends of all that a pod may hold.
const CAPACITY: usize = 8192;

/// How long containerd may take for one event.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
const SHORTEST_RETRY_DELAY: Duration = Duration::from_millis(50);
const LONGEST_RETRY_DELAY: Duration = Duration::from_secs(2);

/// The queue.
pub struct Events {
    namespace: String,
    queue: Mutex<VecDeque<Envelope>>,
    added: Notify,
    sent: Notify,
}

impl Events {
    /// Sends to containerd's ttrpc socket from now on. Without an address nobody wants them.
    pub fn start(namespace: &str, address: Option<String>) -> Arc<Events> {
        let events = Arc::new(Events {
            namespace: namespace.to_owned(),
            queue: Mutex::default(),
            added: Notify::new(),
            sent: Notify::new(),
        });
        let ours = events.clone();
        tokio::spawn(async move {
            match address.filter(|address| !address.is_empty()) {
                Some(address) => ours.send_all(&address).await,
                None => ours.discard_all().await,
            }
        });
        events
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Envelope>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an event into the queue; its topic is `/tasks/TOPIC`.
    pub fn publish<E: Message>(&self, topic: &str, event: &E) {
        let any = packed("containerd.events", event);
        let mut queue = self.queue();
        if queue.len() == CAPACITY {
            log::warning(format_args!("containerd has been away for {CAPACITY} events: the oldest is lost"));
            queue.pop_front();
        }
        queue.push_back(Envelope {
            timestamp: MessageField::some(timestamp(SystemTime::now())),
            namespace: self.namespace.clone(),
            topic: format!("/tasks/{topic}"),
            event: MessageField::some(any),
            ..Default::default()
        });
        drop(queue);
        self.added.notify_one();
    }

    /// Waits until all is sent, or until containerd has had its time.
    pub async fn flush(&self, timeout: Duration) {
        let all = async {
            loop {
                let sent = self.sent.notified();
                if self.queue().is_empty() {
                    return;
                }
                sent.await;
            }
        };
        // Then containerd will ask.
        let _ = tokio::time::timeout(timeout, all).await;
    }

    async fn discard_all(&self) {
        loop {
            self.added.notified().await;
            self.queue().clear();
            self.sent.notify_waiters();
        }
    }

    async fn send_all(&self, address: &str) {
        let mut client = None;
        let mut delay = SHORTEST_RETRY_DELAY;
        loop {
            let Some(next) = self.queue().front().cloned() else {
                self.sent.notify_waiters();
                self.added.notified().await;
                continue;
            };
            match send(&mut client, address, next).await {
                Ok(()) => {
                    self.queue().pop_front();
                    delay = SHORTEST_RETRY_DELAY;
                }
                Err(e) => {
                    log::debug(format_args!("send an event to {address}: {e:#}"));
                    client = None;
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(LONGEST_RETRY_DELAY);
                }
            }
        }
    }
}

async fn send(client: &mut Option<EventsClient>, address: &str, event: Envelope) -> Result<()> {
    let client = match client {
        Some(client) => client,
        None => {
            let url = if address.contains("://") { address.to_owned() } else { format!("unix://{address}") };
            client.insert(EventsClient::new(Client::connect(&url).await.context("connect")?))
        }
    };
    let request = ForwardRequest { envelope: MessageField::some(event), ..Default::default() };
    client.forward(context::with_duration(SEND_TIMEOUT), &request).await?;
    Ok(())
}

/// A message with its type. (Its descriptor knows the package, too, but is 300 kB in memory once it is asked.)
pub fn packed<M: Message>(package: &str, message: &M) -> Any {
    // Fails for 2 GiB only.
    let value = message.write_to_bytes().unwrap_or_default();
    Any { type_url: format!("{package}.{}", M::NAME), value, ..Default::default() }
}

/// A time, in protobuf's form.
pub fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() as i32, ..Default::default() }
}
