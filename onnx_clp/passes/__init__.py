"""Passes over a model: each module finds places, examines one, and applies an edit to it."""
