"""How this program talks to the kernel: netlink messages, network namespaces. Used by the reader and the prober."""
