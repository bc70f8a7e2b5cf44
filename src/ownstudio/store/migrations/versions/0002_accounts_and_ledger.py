"""Accounts, workspaces, prices, the ledger, answers kept for repeated requests, admin tokens and the audit log."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("keys", sa.Column("disabled_at", sa.BigInteger))
    op.add_column("keys", sa.Column("rules", sa.Text, nullable=False, server_default="{}"))
    _accounts()
    _money()
    _idempotency()
    _administration()


def _flag(name: str) -> "sa.Column[bool]":
    return sa.Column(
        name, sa.Boolean(create_constraint=False), nullable=False, server_default=sa.false()
    )


def _count(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def _accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(128), nullable=False, server_default=""),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        _flag("prepaid"),
        _flag("suspended"),
        sa.Column("free_only", sa.Text, nullable=False, server_default="[]"),
        sa.Column("rules", sa.Text, nullable=False, server_default="{}"),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
    )
    op.create_index("ix_accounts_revision", "accounts", ["revision"], unique=True)
    op.create_table(
        "workspaces",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("name", sa.String(128), nullable=False, server_default=""),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("rules", sa.Text, nullable=False, server_default="{}"),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workspaces"),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_workspaces_account"),
    )
    op.create_index("ix_workspaces_revision", "workspaces", ["revision"], unique=True)
    now = int(time.time())
    connection = op.get_bind()
    connection.execute(
        sa.text(
            "INSERT INTO accounts (id, name, created_at, revision) VALUES ('default', '', :now, 1)"
        ),
        {"now": now},
    )
    # Every workspace that a key was made for; from now on they are rows of their own.
    names = {"default"} | {
        row[0] for row in connection.execute(sa.text("SELECT DISTINCT workspace FROM keys"))
    }
    for number, name in enumerate(sorted(names), 1):
        connection.execute(
            sa.text(
                "INSERT INTO workspaces (id, account, created_at, revision)"
                " VALUES (:id, 'default', :now, :revision)"
            ),
            {"id": name, "now": now, "revision": number},
        )


def _money() -> None:
    op.create_table(
        "prices",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("region", sa.String(64), nullable=False),
        sa.Column("effective_from", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.String(8), nullable=False),
        sa.Column("terms", sa.Text, nullable=False),
        sa.Column("origin", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_prices"),
    )
    op.create_index("ix_prices_model", "prices", ["model", "region", "effective_from"])
    op.create_table(
        "entries",
        sa.Column("seq", NUMBER, autoincrement=True, nullable=False),
        sa.Column("receipt", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("workspace", sa.String(64), nullable=False, server_default=""),
        sa.Column("key_id", sa.String(32), nullable=False, server_default=""),
        sa.Column("region", sa.String(64), nullable=False, server_default=""),
        sa.Column("model", sa.String(128), nullable=False, server_default=""),
        sa.Column("price_id", sa.BigInteger),
        sa.Column("amount", sa.BigInteger, nullable=False),
        _count("reserved_tokens"),
        _count("prompt_tokens"),
        _count("cached_tokens"),
        _count("cache_creation_tokens"),
        _flag("explicit_cache"),
        _count("completion_tokens"),
        _count("reasoning_tokens"),
        _flag("thinking"),
        _count("free_prompt_tokens"),
        _count("free_completion_tokens"),
        sa.Column("ending", sa.String(24), nullable=False, server_default=""),
        sa.Column("note", sa.String(200), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("seq", name="pk_entries"),
        sa.UniqueConstraint("receipt", "kind", name="uq_entries_receipt_kind"),
    )
    op.create_index("ix_entries_at", "entries", ["at"])
    op.create_index("ix_entries_account", "entries", ["account", "at"])
    op.create_table(
        "funds",
        sa.Column("scope", sa.String(240), nullable=False),
        _count("granted"),
        _count("spent"),
        _count("held"),
        sa.PrimaryKeyConstraint("scope", name="pk_funds"),
    )
    op.create_table(
        "holds",
        sa.Column("receipt", sa.String(64), nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("claims", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("receipt", name="pk_holds"),
    )
    op.create_index("ix_holds_expires_at", "holds", ["expires_at"])


def _idempotency() -> None:
    op.create_table(
        "idempotency",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("headers", sa.Text, nullable=False, server_default="[]"),
        sa.Column("body", sa.LargeBinary),
        sa.PrimaryKeyConstraint("id", name="pk_idempotency"),
    )
    op.create_index("ix_idempotency_expires_at", "idempotency", ["expires_at"])


def _administration() -> None:
    op.create_table(
        "admin_tokens",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("revoked_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_admin_tokens"),
        sa.UniqueConstraint("token_hash", name="uq_admin_tokens_token_hash"),
    )
    op.create_table(
        "audit",
        sa.Column("seq", NUMBER, autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("target", sa.String(128), nullable=False, server_default=""),
        sa.Column("detail", sa.Text, nullable=False, server_default=""),
        sa.Column("request_id", sa.String(64), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
    )
    op.create_index("ix_audit_at", "audit", ["at"])
