"""Who is calling: a key, with the workspace and the account that it belongs to."""

from msgspec import Struct

from ownstudio.accounts.rules import EVERY_MODEL, Rules

DEFAULT_ACCOUNT = "default"
DEFAULT_WORKSPACE = "default"


class Account(Struct, frozen=True):
    """Who pays. `activated_at` (Unix seconds) begins the free quotas.

    `prepaid`: only as far as what was paid in reaches. `suspended`: not at all. `free_only` names the models ("*" is
    every one) that are answered only while their free quota lasts.
    """

    id: str
    name: str = ""
    activated_at: int = 0
    prepaid: bool = False
    suspended: bool = False
    free_only: frozenset[str] = frozenset()
    rules: Rules = Rules()

    def only_free(self, model: str) -> bool:
        return model in self.free_only or EVERY_MODEL in self.free_only


class Workspace(Struct, frozen=True):
    """A group of keys with rules of its own, in one account."""

    id: str
    account: str
    name: str = ""
    rules: Rules = Rules()


class Principal(Struct, frozen=True):
    """Whoever holds a key: what a request is counted and billed under."""

    key_id: str
    name: str
    account: Account
    workspace: Workspace
    region: str
    rules: Rules = Rules()
