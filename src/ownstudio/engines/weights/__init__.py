"""Weights: where a deployment's file is, and how it comes to this machine.

A spec says what to load: `bundled`, a path, or a repository of a hub (`hf:` Hugging Face, `ms:` ModelScope) that was
pulled before. Serving never downloads anything: `resolve_weights` only looks. `weights.pull.pull` is what a person asks
for; it stands apart because the libraries that it needs take half a second to import.
Pulled files lie under `<data>/models/<hub>/<owner>/<name>/`, each beside its checksum in a `.sha256` file that
`sha256sum -c` understands.
"""

from ownstudio.engines.weights.places import Pulled, pulled_models, resolve_weights
from ownstudio.engines.weights.spec import HubSpec, WeightsError, parse_spec

__all__ = [
    "HubSpec",
    "Pulled",
    "WeightsError",
    "parse_spec",
    "pulled_models",
    "resolve_weights",
]
