"""The operators that are ours."""
