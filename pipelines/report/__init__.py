"""Collecting what `imm report` tells of a manifest; `infinity_mm.report` draws it."""
