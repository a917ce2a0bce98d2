"""`imm tokenize`: pictures and clips as integers, by a vision tokenizer."""
