//! A kubelet that runs nothing: pods with a node become ready at once, and deleted ones go at once, unless it is told to hold them.

use std::collections::BTreeMap;
use std::sync::Mutex;

use corten_apiserver::resources::PODS;
use corten_apiserver::{Client, DeleteOptions, Event, Object};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::controllers::{object, pod};

#[derive(Default)]
struct State {
    /// The image whose pods do not become ready.
    held: Option<String>,
    pods: BTreeMap<String, Object>,
    label: Option<(String, String)>,
    available_min: usize,
    total_max: usize,
    next_address: u16,
}

pub(super) struct Kubelet {
    client: Client,
    state: Mutex<State>,
}

pub(super) fn node(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-{name}")}},
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
                "lastHeartbeatTime": object::seconds(Timestamp::now()),
                "lastTransitionTime": object::seconds(Timestamp::now())}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {"architecture": "", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
                "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "", "osImage": "",
                "systemUUID": ""},
        },
    })
}

impl Kubelet {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            state: Mutex::default(),
        }
    }

    /// From now on pods of this image do not become ready.
    pub(super) fn hold(&self, image: &str) {
        self.state.lock().expect("no panic").held = Some(image.to_owned());
    }

    /// Begins to count the pods with a label.
    pub(super) fn measure(&self, label: &str, value: &str) {
        let mut state = self.state.lock().expect("no panic");
        state.label = Some((label.to_owned(), value.to_owned()));
        state.available_min = usize::MAX;
        state.total_max = 0;
    }

    /// The fewest ready ones and the most active ones since.
    pub(super) fn measured(&self) -> (usize, usize) {
        let state = self.state.lock().expect("no panic");
        (state.available_min, state.total_max)
    }

    pub(super) async fn run(self: std::sync::Arc<Self>) {
        let mut watch = self.client.watch(&PODS, None).await.expect("a watch");
        while let Some(event) = watch.next().await {
            match event {
                Event::Added(pod) | Event::Modified { new: pod, .. } => {
                    self.note(&pod, true);
                    self.tend(&pod).await;
                }
                Event::Deleted(pod) => self.note(&pod, false),
                Event::Synced => {}
            }
        }
    }

    fn note(&self, pod: &Object, is_there: bool) {
        let mut state = self.state.lock().expect("no panic");
        match is_there {
            true => state.pods.insert(object::uid(pod).to_owned(), pod.clone()),
            false => state.pods.remove(object::uid(pod)),
        };
        let Some((label, value)) = state.label.clone() else {
            return;
        };
        let counted = |holds: fn(&Value) -> bool| {
            state
                .pods
                .values()
                .filter(|pod| object::label(pod, &label) == Some(&value) && pod::is_active(pod) && holds(pod))
                .count()
        };
        let (ready, active) = (counted(pod::is_ready), counted(|_| true));
        state.available_min = state.available_min.min(ready);
        state.total_max = state.total_max.max(active);
    }

    async fn tend(&self, pod: &Value) {
        if object::text(pod, "/spec/nodeName").is_empty() {
            return;
        }
        if object::is_deleting(pod) {
            let now = DeleteOptions {
                grace_seconds: Some(0),
                ..DeleteOptions::default()
            };
            // It may be gone already.
            let _ = self
                .client
                .delete(&PODS, object::namespace(pod), object::name(pod), now)
                .await;
            return;
        }
        if !object::text(pod, "/status/podIP").is_empty() {
            return;
        }
        let (ip, ready) = {
            let mut state = self.state.lock().expect("no panic");
            state.next_address += 1;
            let held = state.held.as_deref() == Some(object::text(pod, "/spec/containers/0/image"));
            (
                format!("10.244.{}.{}", state.next_address / 200, state.next_address % 200 + 1),
                !held,
            )
        };
        let mut running = pod.clone();
        running["status"]["phase"] = json!("Running");
        running["status"]["podIP"] = json!(ip);
        running["status"]["podIPs"] =
            json!([{"ip": ip}, {"ip": format!("fd00:10:244::{}", ip.rsplit('.').next().unwrap_or("1"))}]);
        running["status"]["conditions"] = json!([{
            "type": "Ready",
            "status": if ready { "True" } else { "False" },
            "lastTransitionTime": object::seconds(Timestamp::now()),
        }]);
        // A conflict means that there is newer news of the pod on its way.
        if let Err(status) = self.client.update_status(&PODS, running).await {
            assert!(
                status.is_conflict() || status.is_not_found(),
                "a status was refused: {status:?}"
            );
        }
    }
}
