"""`imm tag`: what each picture shows, as tags with scores, by a model or as they came with the data."""
