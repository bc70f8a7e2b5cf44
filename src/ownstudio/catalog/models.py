"""The catalogue as a request sees it: names that are served here, each with every limit resolved."""

from collections.abc import Iterable
from typing import Self

from msgspec import Struct
from msgspec.structs import replace

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

# The vendor's page offers text completions in one region alone; what is yours is in `local`.
_COMPLETIONS_REGIONS: frozenset[Region] = frozenset({"local", "beijing"})


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

    def offer(self, region: str) -> Offer | None:
        """The terms in `region`, or None where the model is not to be had there."""
        return next((offer for offer in self.offers if offer.region == region), None)

    def in_region(self, region: Region) -> "Model | None":
        """This model as `region` has it, or None where the region has it not.

        A deployment's own name belongs to its operator and exists everywhere, also where the vendor offers no model
        of that name.
        """
        offers = self.offers
        if self.offer(region) is None:
            if self.name != self.deployment:
                return None
            offers = (*offers, Offer(region))
        completions = self.completions and region in _COMPLETIONS_REGIONS
        return replace(self, offers=offers, completions=completions)


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

    def in_region(self, region: Region) -> Self:
        """What of it is to be had in `region`. `local` has everything."""
        if region == "local":
            return self
        there = (model.in_region(region) for model in self._models.values())
        return type(self)(model for model in there if model is not None)
