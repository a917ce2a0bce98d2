"""infinity-mm: a data toolkit for vision-language training: manifest in, stage, manifest out."""

__version__ = "0.1.0"
