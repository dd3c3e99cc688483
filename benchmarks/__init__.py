"""Measurements against what a user would run instead, in the same process, interleaved."""
