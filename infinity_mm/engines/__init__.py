"""Engines: vision-language models that are asked in words and pictures, whatever runs them.

`base` has the interface and the table of engines by the name that opens them.
"""
