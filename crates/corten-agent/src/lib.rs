//! corten-agent, the node agent: answers the CNI plugin, watches this node's pods, enrolls and repairs.

pub mod install;
