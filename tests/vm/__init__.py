"""Real kernel WireGuard in a virtual machine: the harness, the recorder of dumps, and the tests inside the guest."""
