"""Which deployment answers which name.

A deployment routes exact names, prefixes (`qwen3-*`) or everything (`*`). An exact name wins over a
prefix, a longer prefix over a shorter one, and between equals the deployment declared first; a name that
two deployments claim exactly is an error. What no deployment routes does not exist here.
"""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from ownstudio.catalog.models import Catalog, Model
from ownstudio.catalog.reading import Entry, read_entries
from ownstudio.catalog.terms import REGIONS, CachePercents, Offer, Thinking
from ownstudio.core.request import Sampling

OWNER = "ownstudio"

# A name that is not in the catalogue belongs to the operator, so nothing is withheld from it.
_OWN_DEFAULTS = Sampling(temperature=0.7, top_p=0.8, top_k=20)
_OWN_N_MAX = 4
_OWN_CACHE = CachePercents(implicit_hit=20, explicit_hit=10, creation=125)
_OWN_OFFERS = tuple(Offer(region) for region in REGIONS)


class DeploymentRoutes(Struct, frozen=True):
    """What the catalogue needs to know of a deployment.

    `context` is how many tokens one sequence may hold (1 stands for weights that could not be read: the
    names exist, and asking for them tells the fault), `created` a Unix time in seconds, `thinking` what
    the weights themselves can do, for the names that the catalogue does not know.
    """

    name: str
    routes: tuple[str, ...]
    context: int
    created: int
    thinking: Thinking = Thinking()


def load_catalog(deployments: Iterable[DeploymentRoutes]) -> Catalog:
    """The models that these deployments answer.

    A deployment answers to its own name too. Published lengths are cut to what its context allows, one
    token less than the context: a prompt must leave room for one token of the answer, and an answer has
    a prompt of at least one token before it. Raises ValueError for a name that two deployments claim, a
    pattern that is malformed or matches no model, and a context of no tokens.
    """
    declared = tuple(deployments)
    entries = read_entries()
    claims = _exact_claims(declared)
    prefixes = _prefixes(declared, entries)
    models = []
    for name, deployment in claims.items():
        if name not in entries:
            models.append(_own_model(name, deployment))
    for name, entry in entries.items():
        routed = claims.get(name) or _by_prefix(name, prefixes)
        if routed is not None:
            models.append(_published_model(entry, routed))
    return Catalog(models)


def _exact_claims(deployments: tuple[DeploymentRoutes, ...]) -> dict[str, DeploymentRoutes]:
    claims: dict[str, DeploymentRoutes] = {}
    for deployment in deployments:
        if deployment.context < 1:
            raise ValueError(
                f"deployment {deployment.name!r}: the context is {deployment.context} tokens"
            )
        # The name may be listed among the routes as well, which says the same twice.
        for name in dict.fromkeys((deployment.name, *_exact_names(deployment))):
            other = claims.setdefault(name, deployment)
            if other is not deployment:
                raise ValueError(
                    f"the model name {name!r} is claimed by two deployments:"
                    f" {other.name!r} and {deployment.name!r}"
                )
    return claims


def _exact_names(deployment: DeploymentRoutes) -> Iterator[str]:
    for route in deployment.routes:
        if not route or "*" in route[:-1]:
            raise ValueError(
                f"deployment {deployment.name!r}: the route {route!r} is neither a name,"
                " nor a prefix that ends with '*', nor '*'"
            )
        if not route.endswith("*"):
            yield route


def _prefixes(
    deployments: tuple[DeploymentRoutes, ...], entries: dict[str, Entry]
) -> list[tuple[str, DeploymentRoutes]]:
    """Longest first; the sort is stable, so that equals stay in the order of declaration."""
    prefixes = [
        (route[:-1], deployment)
        for deployment in deployments
        for route in deployment.routes
        if route.endswith("*")
    ]
    for prefix, deployment in prefixes:
        if not any(name.startswith(prefix) for name in entries):
            raise ValueError(
                f"deployment {deployment.name!r}: the route {prefix + '*'!r} matches no model"
                " of the catalogue"
            )
    return sorted(prefixes, key=lambda pair: -len(pair[0]))


def _by_prefix(name: str, prefixes: list[tuple[str, DeploymentRoutes]]) -> DeploymentRoutes | None:
    return next((deployment for prefix, deployment in prefixes if name.startswith(prefix)), None)


def _published_model(entry: Entry, deployment: DeploymentRoutes) -> Model:
    bound = _length_bound(deployment)
    input_max = _at_most(entry.window.input, bound)
    output_max = _at_most(entry.window.output, bound)
    thinks = entry.thinking.mode != "none"
    return Model(
        name=entry.name,
        deployment=deployment.name,
        input_max=input_max,
        output_max=output_max,
        n_max=entry.n_max,
        completions=entry.completions,
        defaults=entry.defaults,
        created=deployment.created,
        family=entry.family,
        alias_of=entry.alias_of,
        context=entry.window.context,
        features=entry.features,
        thinking=entry.thinking,
        thinking_input_max=_at_most(entry.thinking_window.input, bound) if thinks else 0,
        thinking_output_max=_at_most(entry.thinking_window.output, bound) if thinks else 0,
        thinking_budget_max=_at_most(entry.thinking_budget, bound) if thinks else 0,
        native=entry.native,
        cache=entry.cache,
        offers=entry.offers,
    )


def _own_model(name: str, deployment: DeploymentRoutes) -> Model:
    bound = _length_bound(deployment)
    thinking_max = bound if deployment.thinking.mode != "none" else 0
    return Model(
        name=name,
        deployment=deployment.name,
        input_max=bound,
        output_max=bound,
        n_max=_OWN_N_MAX,
        completions=True,
        defaults=_OWN_DEFAULTS,
        created=deployment.created,
        owned_by=OWNER,
        context=deployment.context,
        thinking=deployment.thinking,
        thinking_input_max=thinking_max,
        thinking_output_max=thinking_max,
        thinking_budget_max=thinking_max,
        cache=_OWN_CACHE,
        offers=_OWN_OFFERS,
    )


def _at_most(published: int | None, bound: int) -> int:
    return bound if published is None else min(published, bound)


def _length_bound(deployment: DeploymentRoutes) -> int:
    return max(deployment.context - 1, 1)
