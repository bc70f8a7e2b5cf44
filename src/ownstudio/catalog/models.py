"""The catalogue as a request sees it: names that are served here, each with every limit resolved."""

from collections.abc import Iterable

from msgspec import Struct

from ownstudio.catalog.terms import (
    CachePercents,
    Features,
    NativeDefaults,
    Offer,
    Region,
    Thinking,
)
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.request import Sampling


class Model(Struct, frozen=True):
    """One name of the catalogue. Lengths are in tokens; `created` is a Unix time in seconds.

    `input_max` and `output_max` hold while the model does not think, their `thinking_` twins while it
    does; `thinking_budget_max` bounds the thoughts themselves. The three are 0 for a model that never
    thinks. `family` is None where only the weights can tell, `context` where no window is published.
    """

    name: str
    deployment: str
    input_max: int
    output_max: int
    n_max: int
    completions: bool
    defaults: Sampling
    created: int
    owned_by: str = "system"
    family: str | None = None
    alias_of: str | None = None
    context: int | None = None
    features: Features = Features()
    thinking: Thinking = Thinking()
    thinking_input_max: int = 0
    thinking_output_max: int = 0
    thinking_budget_max: int = 0
    native: NativeDefaults = NativeDefaults()
    cache: CachePercents | None = None
    offers: tuple[Offer, ...] = ()

    def offer(self, region: Region) -> Offer | None:
        """The terms in `region`, or None where the model is not to be had there."""
        return next((offer for offer in self.offers if offer.region == region), None)


class Catalog:
    """Finds the row of a name. Raises ValueError where two rows share one."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._models: dict[str, Model] = {}
        for model in models:
            if model.name in self._models:
                raise ValueError(f"the model name {model.name!r} is routed twice")
            self._models[model.name] = model

    def resolve(self, name: str) -> Model:
        model = self._models.get(name)
        if model is None:
            raise StudioError(
                ErrorKind.MODEL_NOT_FOUND,
                f"The model `{name}` does not exist or you do not have access to it.",
                param="model",
            )
        return model

    def models(self) -> list[Model]:
        return list(self._models.values())
