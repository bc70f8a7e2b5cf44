"""The composition root: the only place where every part of the house meets. Settings in, a serving process out."""

from ownstudio.app.serve import serve

__all__ = ["serve"]
