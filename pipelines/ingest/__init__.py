"""Ingest: records and media files in, a manifest out. `stage.run` is the stage."""
