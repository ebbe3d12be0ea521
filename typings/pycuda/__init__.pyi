"""What this project uses of PyCUDA, which has no types; after the sources of 2026.1."""
