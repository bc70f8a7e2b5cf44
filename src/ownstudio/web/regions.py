"""For whom a request is answered: the region that its address says, and the models that its caller has there.

A region is a catalogue of its own; what is not in it does not exist for its callers.
"""

from msgspec import Struct
from starlette.types import Scope

from ownstudio.accounts.access import check_model
from ownstudio.accounts.principal import Principal
from ownstudio.catalog import Catalog, Model, Region
from ownstudio.catalog.regions import RegionTable
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.web.exchange import Exchange

# Where the caller of a request stands in its scope, once its key is known.
CALLER = "ownstudio.caller"


class Caller(Struct, frozen=True):
    """Whoever holds the key of a request, and the catalogue of the region that it was sent to."""

    principal: Principal
    catalog: Catalog

    def resolve(self, name: str) -> Model:
        """The model of that name. Raises StudioError MODEL_NOT_FOUND, MODEL_ACCESS_DENIED."""
        model = self.catalog.resolve(name)
        check_model(self.principal, name)
        return model

    def models(self) -> list[Model]:
        """The models that this caller may call, in the order of the catalogue."""
        return [model for model in self.catalog.models() if self._may_call(model.name)]

    def _may_call(self, name: str) -> bool:
        principal = self.principal
        return (
            principal.rules.allows_model(name)
            and principal.workspace.rules.allows_model(name)
            and principal.account.rules.allows_model(name)
        )


class Regions:
    """The regions that this server plays, each with its catalogue."""

    def __init__(self, table: RegionTable, catalog: Catalog) -> None:
        self._table = table
        self._catalogs = {region: catalog.in_region(region) for region in table.regions()}

    def of(self, exchange: Exchange) -> Region:
        """The region of a request. Raises StudioError NOT_FOUND where none answers at its address."""
        only = self._table.only
        if only is not None:
            return only
        region = self._table.of(exchange.header(b"host"), _port(exchange.scope))
        if region is None:
            raise StudioError(ErrorKind.NOT_FOUND, "Not found!")
        return region

    def catalog(self, region: Region) -> Catalog:
        return self._catalogs[region]


def _port(scope: Scope) -> int:
    """The port that a request came in on."""
    server = scope.get("server")
    return 0 if server is None else int(server[1] or 0)
