"""`imm dedup`: samples that say the same about the same, of which one is kept."""
