"""The MTU of one tunnel: which probes to send, what they prove, the verdict and the advice. No sockets, no clock."""
