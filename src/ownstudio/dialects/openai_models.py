"""The catalogue as OpenAI clients read it: `GET /models` and `GET /models/{id}`."""

from collections.abc import Iterable

import msgspec

from ownstudio.catalog import Model


def models_page(models: Iterable[Model]) -> bytes:
    return msgspec.json.encode({"object": "list", "data": [_entry(model) for model in models]})


def model_entry(model: Model) -> bytes:
    return msgspec.json.encode(_entry(model))


def _entry(model: Model) -> dict[str, object]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
    }
