"""Caps on activations and on directions in channel space."""
