"""The composition root: the only place where every part of the house meets. Settings in, a serving process out."""

from ownstudio.app.serve import check_settings, serve

__all__ = ["check_settings", "serve"]
