"""What runs inside the virtual machine: pytest files (`guest_*.py`) and the tools that build WireGuard devices."""
