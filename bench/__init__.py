"""Latency, INT8 and the kernel, each measured by a command."""
