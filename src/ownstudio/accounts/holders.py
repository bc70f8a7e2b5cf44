"""The holders of all keys, in memory: what of the database a check of a key needs, and how its changes are taken in.

Everything is made when a change comes, nothing when a key is looked up. A key that is disabled, or whose workspace has
not been seen, is known and stands for nobody.
"""

from msgspec import Struct

from ownstudio.accounts.changes import read_rules
from ownstudio.accounts.directory import account_of, workspace_of
from ownstudio.accounts.principal import Account, Principal, Workspace
from ownstudio.store import accounts as account_table
from ownstudio.store import keys as key_table
from ownstudio.store.database import Database


class Held(Struct, frozen=True):
    """A key that is not revoked. `principal` is None while it stands for nobody."""

    row: key_table.KeyRow
    principal: Principal | None


class Holders:
    """Begins empty; `by_hash` finds a key by the hash of its secret."""

    def __init__(self) -> None:
        self.by_hash: dict[str, Held] = {}
        self._workspaces: dict[str, Workspace] = {}
        self._accounts: dict[str, Account] = {}
        self._seen = account_table.Revisions()

    async def take_in(self, database: Database) -> list[key_table.KeyRow]:
        """Take in what has changed since the last time, whole or, with a StoreError, not at all; the keys changed."""
        seen = self._seen
        keys: list[key_table.KeyRow] = []
        workspaces: list[account_table.WorkspaceRow] = []
        accounts: list[account_table.AccountRow] = []
        async with database.snapshot() as connection:
            last = await account_table.last_revisions(connection)
            # From what refers to what is referred to: on PostgreSQL each statement sees its own moment, and so a key
            # never comes before its workspace, except by what is made in between, which the next look brings.
            if last.keys > seen.keys:
                keys = await key_table.keys_since(connection, seen.keys)
            if last.workspaces > seen.workspaces:
                workspaces = await account_table.workspaces_since(connection, seen.workspaces)
            if last.accounts > seen.accounts:
                accounts = await account_table.accounts_since(connection, seen.accounts)
        self._accounts |= {row.id: account_of(row) for row in accounts}
        self._workspaces |= {row.id: workspace_of(row) for row in workspaces}
        self._renew({row.id for row in workspaces}, {row.id for row in accounts})
        for row in keys:
            if row.revoked_at is None:
                self.by_hash[row.secret_hash] = self._hold(row)
            else:
                self.by_hash.pop(row.secret_hash, None)
        self._seen = account_table.Revisions(
            keys=keys[-1].revision if keys else seen.keys,
            workspaces=workspaces[-1].revision if workspaces else seen.workspaces,
            accounts=accounts[-1].revision if accounts else seen.accounts,
        )
        return keys

    def _renew(self, workspaces: set[str], accounts: set[str]) -> None:
        """Make the principals anew whose workspace or account has changed."""
        if not workspaces and not accounts:
            return
        changed = {
            one.id
            for one in self._workspaces.values()
            if one.id in workspaces or one.account in accounts
        }
        for digest, held in self.by_hash.items():
            if held.row.workspace in changed:
                self.by_hash[digest] = self._hold(held.row)

    def _hold(self, row: key_table.KeyRow) -> Held:
        workspace = self._workspaces.get(row.workspace)
        account = None if workspace is None else self._accounts.get(workspace.account)
        if workspace is None or account is None or row.disabled_at is not None:
            return Held(row, None)
        rules = read_rules(row.rules, row.id)
        return Held(row, Principal(row.id, row.name, account, workspace, row.region, rules))
