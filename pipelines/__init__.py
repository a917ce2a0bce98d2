"""The stages: each takes a manifest, adds what it measured or made, and writes a new manifest."""
