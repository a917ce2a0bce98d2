"""`imm synthesize`: questions and answers for pictures, written by a VLM and checked (Infinity-MM, §3.2)."""
