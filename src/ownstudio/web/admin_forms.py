"""The bodies of the admin API and what it shows of accounts, workspaces and keys.

A field that a change leaves out stays as it is; `rules` that are given replace all rules. Money is decimal text in the
server's currency, times are Unix seconds. No form has a field for a secret, so that a body may stand in the audit log.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ownstudio.accounts.keys import KeyInfo, NewKey
from ownstudio.accounts.principal import DEFAULT_ACCOUNT, DEFAULT_WORKSPACE, Account, Workspace
from ownstudio.accounts.rules import Budget, Limit, Rules
from ownstudio.catalog import Region
from ownstudio.core.money import parse_amount, plain_amount
from ownstudio.web.admin_call import PageQuery, told

# Longer than any of these may be; what exactly they may be, accounts says.
_Text = Annotated[str, Meta(max_length=256)]
_Time = Annotated[int, Meta(ge=0, le=2**40)]
_Names = Annotated[tuple[_Text, ...], Meta(max_length=4096)]


class BudgetForm(Struct, frozen=True, forbid_unknown_fields=True):
    amount: _Text
    period: Literal["day", "month"] = "month"


class RulesForm(Struct, frozen=True, forbid_unknown_fields=True):
    """`accounts.rules.Rules` as JSON. `models` null is every one; empty `addresses` are all."""

    models: _Names | None = None
    addresses: _Names = ()
    limits: Annotated[dict[_Text, Limit], Meta(max_length=4096)] = {}
    concurrency: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    budget: BudgetForm | None = None

    def rules(self) -> Rules:
        """Raises StudioError for an amount that is none; what else cannot be, accounts refuses."""
        budget = None
        if self.budget is not None:
            with told("rules.budget.amount"):
                budget = Budget(parse_amount(self.budget.amount), self.budget.period)
        return Rules(self.models, self.addresses, self.limits, self.concurrency, budget)


NO_RULES = RulesForm()


class NewAccountForm(Struct, frozen=True, forbid_unknown_fields=True):
    id: _Text
    name: _Text = ""
    prepaid: bool = False
    free_only: _Names = ()
    rules: RulesForm = NO_RULES


class AccountForm(Struct, frozen=True, forbid_unknown_fields=True):
    name: _Text | UnsetType = UNSET
    prepaid: bool | UnsetType = UNSET
    suspended: bool | UnsetType = UNSET
    free_only: _Names | UnsetType = UNSET
    rules: RulesForm | UnsetType = UNSET


class NewWorkspaceForm(Struct, frozen=True, forbid_unknown_fields=True):
    id: _Text
    account: _Text = DEFAULT_ACCOUNT
    name: _Text = ""
    rules: RulesForm = NO_RULES


class WorkspaceForm(Struct, frozen=True, forbid_unknown_fields=True):
    name: _Text | UnsetType = UNSET
    rules: RulesForm | UnsetType = UNSET


class NewKeyForm(Struct, frozen=True, forbid_unknown_fields=True):
    workspace: _Text = DEFAULT_WORKSPACE
    region: Region = "local"
    name: _Text = ""
    expires_at: _Time | None = None
    rules: RulesForm = NO_RULES


class KeyForm(Struct, frozen=True, forbid_unknown_fields=True):
    name: _Text | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET
    expires_at: _Time | UnsetType | None = UNSET
    rules: RulesForm | UnsetType = UNSET


class RotateForm(Struct, frozen=True, forbid_unknown_fields=True):
    """The old secret goes on for `overlap_s` seconds."""

    overlap_s: Annotated[int, Meta(ge=0)] = 0


class WorkspacesQuery(PageQuery, frozen=True, forbid_unknown_fields=True):
    account: _Text | None = None


class KeysQuery(PageQuery, frozen=True, forbid_unknown_fields=True):
    workspace: _Text | None = None


def rules_or_none(form: RulesForm | UnsetType) -> Rules | None:
    return form.rules() if isinstance(form, RulesForm) else None


def show_rules(rules: Rules) -> dict[str, object]:
    """As `RulesForm` reads it, without what is not set."""
    shown: dict[str, object] = msgspec.to_builtins(rules)
    if rules.budget is not None:
        amount = plain_amount(rules.budget.amount)
        shown["budget"] = {"amount": amount, "period": rules.budget.period}
    return shown


def show_account(account: Account) -> dict[str, object]:
    return {
        "id": account.id,
        "name": account.name,
        "activated_at": account.activated_at,
        "prepaid": account.prepaid,
        "suspended": account.suspended,
        "free_only": sorted(account.free_only),
        "rules": show_rules(account.rules),
    }


def show_workspace(workspace: Workspace) -> dict[str, object]:
    return {
        "id": workspace.id,
        "account": workspace.account,
        "name": workspace.name,
        "rules": show_rules(workspace.rules),
    }


def show_key(key: KeyInfo) -> dict[str, object]:
    shown: dict[str, object] = msgspec.to_builtins(key)
    return shown | {"rules": show_rules(key.rules)}


def show_new_key(key: NewKey) -> dict[str, object]:
    """The one answer that has a secret in it."""
    return {
        "id": key.id,
        "secret": key.secret,
        "name": key.name,
        "workspace": key.workspace,
        "region": key.region,
        "expires_at": key.expires_at,
        "disabled": key.disabled,
    }
