"""This process: signals, clock, progress, and the interpreter that starts others."""
