//! corten-cni, the CNI plugin: synchronous, tiny, talks to the agent.

fn main() {}
