//! `istio.workload.zds`: how a node agent hands pods' network namespaces to the node proxy.
//!
//! One message a packet on a `SOCK_SEQPACKET` socket; an [`AddWorkload`] carries one file descriptor, nothing else carries any.

/// Longest packet either side accepts, bytes.
pub const PACKET_MAX: usize = 1024;

/// First word of the proxy.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ZdsHello {
    /// The protocol's version.
    #[prost(enumeration = "Version", tag = "1")]
    pub version: i32,
}

/// Protocol versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Version {
    /// Not a version.
    NotUsed = 0,
    /// The only one.
    V1 = 1,
}

/// What the agent says.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct WorkloadRequest {
    /// The request.
    #[prost(oneof = "workload_request::Payload", tags = "1, 2, 3, 5")]
    pub payload: Option<workload_request::Payload>,
}

/// The forms of [`WorkloadRequest`].
pub mod workload_request {
    /// One form.
    #[derive(Clone, PartialEq, Eq, prost::Oneof)]
    pub enum Payload {
        /// Serve this pod; its namespace comes along.
        #[prost(message, tag = "1")]
        Add(super::AddWorkload),
        /// Stop serving this pod.
        #[prost(message, tag = "2")]
        Del(super::DelWorkload),
        /// All pods of the node have been named.
        #[prost(message, tag = "3")]
        SnapshotSent(super::SnapshotSent),
        /// Keep serving this pod if it is served; its namespace is not known now.
        #[prost(message, tag = "5")]
        Keep(super::KeepWorkload),
    }
}

/// Serve a pod.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AddWorkload {
    /// Kubernetes' uid of the pod.
    #[prost(string, tag = "1")]
    pub uid: String,
    /// Who the pod is.
    #[prost(message, optional, tag = "2")]
    pub workload_info: Option<WorkloadInfo>,
}

/// Who a pod is.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct WorkloadInfo {
    /// Name of the pod.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// Its service account.
    #[prost(string, tag = "3")]
    pub service_account: String,
}

/// Stop serving a pod.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DelWorkload {
    /// Kubernetes' uid of the pod.
    #[prost(string, tag = "2")]
    pub uid: String,
}

/// Keep serving a pod.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeepWorkload {
    /// Kubernetes' uid of the pod.
    #[prost(string, tag = "1")]
    pub uid: String,
}

/// End of the snapshot.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct SnapshotSent {}

/// What the proxy answers, once for each request and in order.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct WorkloadResponse {
    /// The answer.
    #[prost(oneof = "workload_response::Payload", tags = "1")]
    pub payload: Option<workload_response::Payload>,
}

/// The forms of [`WorkloadResponse`].
pub mod workload_response {
    /// One form.
    #[derive(Clone, PartialEq, Eq, prost::Oneof)]
    pub enum Payload {
        /// Done, or why not.
        #[prost(message, tag = "1")]
        Ack(super::Ack),
    }
}

/// Outcome of a request.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Ack {
    /// Empty: success.
    #[prost(string, tag = "1")]
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    /// The byte examples of the protocol's description.
    #[test]
    fn bytes_on_the_wire() {
        assert_eq!(ZdsHello { version: 1 }.encode_to_vec(), [8, 1]);
        let request = |payload| WorkloadRequest { payload: Some(payload) }.encode_to_vec();
        use workload_request::Payload;
        assert_eq!(request(Payload::SnapshotSent(SnapshotSent {})), [0x1a, 0]);
        assert_eq!(
            request(Payload::Del(DelWorkload { uid: "a".into() })),
            [0x12, 3, 0x12, 1, 0x61]
        );
        assert_eq!(
            request(Payload::Keep(KeepWorkload { uid: "a".into() })),
            [0x2a, 3, 0x0a, 1, 0x61]
        );
        let ack = WorkloadResponse {
            payload: Some(workload_response::Payload::Ack(Ack::default())),
        };
        assert_eq!(ack.encode_to_vec(), [0x0a, 0]);
    }
}
