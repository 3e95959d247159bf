//! System calls, namespaces, mounts, netlink and nftables: the only unsafe code.
