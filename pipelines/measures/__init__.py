"""Measures: what can be said of a medium or a sample, one family a module; `registry` lists them all."""
