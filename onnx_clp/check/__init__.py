"""Checks of a model before any library sees it."""
