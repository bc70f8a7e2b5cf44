"""Ownstudio: a Model Studio that you own."""

__version__ = "0.1.0"
