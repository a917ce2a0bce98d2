"""Media: what the bytes are (probe), whether they are sound (decode, video), and where they are kept."""
