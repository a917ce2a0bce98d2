"""Formats in and out: each turns files into records (`Reader`) or samples into files (`Writer`)."""
