"""`imm decontaminate`: samples that show or ask what an item of a benchmark does are dropped."""
