"""The version of the package: what may change when is in CHANGELOG.md."""

__version__ = "0.1.0"
