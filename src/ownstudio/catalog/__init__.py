"""The models that clients may ask for: which deployment answers each name, and what it may be asked.

What is published about each name is data, in `catalog.toml`; `reading` checks it, `routing` joins it with
the deployments that are there, and the result, a `Catalog`, is all that a request ever sees. Nothing is
read at import time.
"""

from ownstudio.catalog.models import Catalog, Model
from ownstudio.catalog.page import models_page_markdown
from ownstudio.catalog.reading import Entry, parse_entries, read_entries
from ownstudio.catalog.routing import DeploymentRoutes, load_catalog
from ownstudio.catalog.terms import (
    CachePercents,
    Features,
    NativeDefaults,
    Offer,
    PriceTier,
    Region,
    Thinking,
)

__all__ = [
    "CachePercents",
    "Catalog",
    "DeploymentRoutes",
    "Entry",
    "Features",
    "Model",
    "NativeDefaults",
    "Offer",
    "PriceTier",
    "Region",
    "Thinking",
    "load_catalog",
    "models_page_markdown",
    "parse_entries",
    "read_entries",
]
