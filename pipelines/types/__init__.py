"""Types of instruction: the taxonomy, the labels of seed questions, and the table that joins both to tags."""
