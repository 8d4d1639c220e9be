"""Fuzzing of everything that reads a file: what is read, what may come of it, and how files are damaged."""
