"""Accounts, workspaces and keys in the admin API. None but keys can be done away with: the ledger names them."""

from collections.abc import Iterable

from msgspec import UNSET, UnsetType

from ownstudio.accounts.directory import Directory
from ownstudio.accounts.keys import Keyring
from ownstudio.web.admin_call import (
    AdminCall,
    Answer,
    PageQuery,
    Place,
    T,
    check_given_id,
    not_there,
    page,
    told,
)
from ownstudio.web.admin_forms import (
    AccountForm,
    KeyForm,
    KeysQuery,
    NewAccountForm,
    NewKeyForm,
    NewWorkspaceForm,
    RotateForm,
    WorkspaceForm,
    WorkspacesQuery,
    rules_or_none,
    show_account,
    show_key,
    show_new_key,
    show_workspace,
)


class AccountPages:
    """Each method answers one row of the table."""

    def __init__(self, directory: Directory, keyring: Keyring) -> None:
        self._directory = directory
        self._keyring = keyring

    def places(self) -> Iterable[Place]:
        return (
            Place(
                "/accounts",
                "admin-accounts",
                {"GET": self.list_accounts, "POST": self.create_account},
            ),
            Place(
                "/accounts/{account}",
                "admin-account",
                {"GET": self.account, "PATCH": self.update_account},
            ),
            Place(
                "/workspaces",
                "admin-workspaces",
                {"GET": self.list_workspaces, "POST": self.create_workspace},
            ),
            Place(
                "/workspaces/{workspace}",
                "admin-workspace",
                {"GET": self.workspace, "PATCH": self.update_workspace},
            ),
            Place("/keys", "admin-keys", {"GET": self.list_keys, "POST": self.create_key}),
            Place(
                "/keys/{key}",
                "admin-key",
                {"GET": self.key, "PATCH": self.update_key, "DELETE": self.revoke_key},
            ),
            Place("/keys/{key}/rotate", "admin-key-rotate", {"POST": self.rotate_key}),
        )

    async def counts(self) -> dict[str, int]:
        """How many there are; keys that are revoked do not count."""
        keys = await self._keyring.list()
        return {
            "accounts": len(await self._directory.accounts()),
            "workspaces": len(await self._directory.workspaces()),
            "keys": sum(key.revoked_at is None for key in keys),
        }

    async def list_accounts(self, call: AdminCall) -> Answer:
        asked = call.query(PageQuery)
        return 200, page(await self._directory.accounts(), asked, show_account)

    async def create_account(self, call: AdminCall) -> Answer:
        form = await call.body(NewAccountForm)
        rules = form.rules.rules()
        check_given_id("account", form.id, "id")
        async with call.change("account.create", form.id):
            account = await self._directory.create_account(
                form.id,
                name=form.name,
                prepaid=form.prepaid,
                free_only=frozenset(form.free_only),
                rules=rules,
            )
        return 201, show_account(account)

    async def account(self, call: AdminCall) -> Answer:
        account_id = call.id("account")
        with told("account"):
            return 200, show_account(await self._directory.account(account_id))

    async def update_account(self, call: AdminCall) -> Answer:
        account_id = call.id("account")
        form = await call.body(AccountForm)
        rules = rules_or_none(form.rules)
        free_only = None if form.free_only is UNSET else frozenset(form.free_only)
        async with call.change("account.update", account_id):
            account = await self._directory.update_account(
                account_id,
                name=_or_none(form.name),
                prepaid=_or_none(form.prepaid),
                suspended=_or_none(form.suspended),
                free_only=free_only,
                rules=rules,
            )
        return 200, show_account(account)

    async def list_workspaces(self, call: AdminCall) -> Answer:
        asked = call.query(WorkspacesQuery)
        if asked.account is not None:
            check_given_id("account", asked.account)
        found = await self._directory.workspaces(asked.account)
        return 200, page(found, asked, show_workspace)

    async def create_workspace(self, call: AdminCall) -> Answer:
        form = await call.body(NewWorkspaceForm)
        rules = form.rules.rules()
        check_given_id("workspace", form.id, "id")
        check_given_id("account", form.account)
        async with call.change("workspace.create", form.id):
            workspace = await self._directory.create_workspace(
                form.id, account=form.account, name=form.name, rules=rules
            )
        return 201, show_workspace(workspace)

    async def workspace(self, call: AdminCall) -> Answer:
        workspace_id = call.id("workspace")
        with told("workspace"):
            return 200, show_workspace(await self._directory.workspace(workspace_id))

    async def update_workspace(self, call: AdminCall) -> Answer:
        workspace_id = call.id("workspace")
        form = await call.body(WorkspaceForm)
        rules = rules_or_none(form.rules)
        async with call.change("workspace.update", workspace_id):
            workspace = await self._directory.update_workspace(
                workspace_id, name=_or_none(form.name), rules=rules
            )
        return 200, show_workspace(workspace)

    async def list_keys(self, call: AdminCall) -> Answer:
        asked = call.query(KeysQuery)
        found = await self._keyring.list()
        if asked.workspace is not None:
            check_given_id("workspace", asked.workspace)
            found = [key for key in found if key.workspace == asked.workspace]
        return 200, page(found, asked, show_key)

    async def create_key(self, call: AdminCall) -> Answer:
        form = await call.body(NewKeyForm)
        rules = form.rules.rules()
        check_given_id("workspace", form.workspace)
        async with call.change("key.create") as change:
            # The keyring would make the workspace along with the key; here a misspelled one is a mistake.
            await self._directory.workspace(form.workspace)
            new = await self._keyring.create(
                form.name, form.workspace, form.region, form.expires_at, rules
            )
            change.target = new.id
        return 201, show_new_key(new)

    async def key(self, call: AdminCall) -> Answer:
        key_id = call.id("key")
        with told("key"):
            return 200, show_key(await self._keyring.get(key_id))

    async def update_key(self, call: AdminCall) -> Answer:
        key_id = call.id("key")
        form = await call.body(KeyForm)
        rules = rules_or_none(form.rules)
        async with call.change("key.update", key_id):
            key = await self._keyring.update(
                key_id,
                name=_or_none(form.name),
                rules=rules,
                disabled=_or_none(form.disabled),
                expires_at=form.expires_at,
            )
        return 200, show_key(key)

    async def rotate_key(self, call: AdminCall) -> Answer:
        key_id = call.id("key")
        form = await call.body(RotateForm)
        async with call.change("key.rotate", key_id) as change:
            new = await self._keyring.rotate(key_id, form.overlap_s)
            change.detail["new_key"] = new.id
        return 201, show_new_key(new)

    async def revoke_key(self, call: AdminCall) -> Answer:
        key_id = call.id("key")
        async with call.change("key.revoke", key_id):
            if not await self._keyring.revoke(key_id):
                raise not_there(f"{key_id} is no key in use", "key")
        return 200, show_key(await self._keyring.get(key_id))


def _or_none(value: T | UnsetType) -> T | None:
    """What a change gives, or None for what it leaves as it is."""
    return None if isinstance(value, UnsetType) else value
