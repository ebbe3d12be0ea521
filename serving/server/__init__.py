"""The process: tritonserver, started, watched and stopped."""
