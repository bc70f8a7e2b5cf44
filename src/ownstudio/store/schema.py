"""The tables as they are now. `migrations` holds the steps that lead here; a test compares the two.

Every change needs a new step, and `SCHEMA_VERSION` the name of the last one.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

SCHEMA_VERSION = "0002"

# Names that are the same in every database, so that a later step can speak of a constraint.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# A row is never deleted. `revision` counts the changes of the whole table, and each change gives its row the next
# number, so that a reader can ask for what is new. `prefix` is the beginning of the secret, by which people tell keys
# apart.
keys = Table(
    "keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("prefix", String(16), nullable=False),
    Column("secret_hash", String(64), nullable=False, unique=True),
    Column("workspace", String(64), nullable=False, server_default="default"),
    Column("region", String(64), nullable=False, server_default="local"),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("last_used_at", BigInteger),
    Column("revision", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
    Column("rules", Text, nullable=False, server_default="{}"),
)
Index("ix_keys_revision", keys.c.revision, unique=True)

# SQLite numbers rows by itself only where the column is exactly INTEGER.
_NUMBER = BigInteger().with_variant(Integer, "sqlite")

# `rules` is the JSON of accounts.rules.Rules, `free_only` a JSON list of model names. Revisions count as in `keys`,
# each table for itself.
accounts = Table(
    "accounts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(128), nullable=False, server_default=""),
    Column("created_at", BigInteger, nullable=False),
    Column("prepaid", Boolean(create_constraint=False), nullable=False, server_default=false()),
    Column("suspended", Boolean(create_constraint=False), nullable=False, server_default=false()),
    Column("free_only", Text, nullable=False, server_default="[]"),
    Column("rules", Text, nullable=False, server_default="{}"),
    Column("revision", BigInteger, nullable=False),
)
Index("ix_accounts_revision", accounts.c.revision, unique=True)

workspaces = Table(
    "workspaces",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("account", String(64), ForeignKey("accounts.id"), nullable=False),
    Column("name", String(128), nullable=False, server_default=""),
    Column("created_at", BigInteger, nullable=False),
    Column("rules", Text, nullable=False, server_default="{}"),
    Column("revision", BigInteger, nullable=False),
)
Index("ix_workspaces_revision", workspaces.c.revision, unique=True)

# A price is never changed: a newer row takes over at its `effective_from`. `terms` is the JSON of billing.prices.Terms.
prices = Table(
    "prices",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("model", String(128), nullable=False),
    Column("region", String(64), nullable=False),
    Column("effective_from", BigInteger, nullable=False),
    Column("currency", String(8), nullable=False),
    Column("terms", Text, nullable=False),
    Column("origin", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
Index("ix_prices_model", prices.c.model, prices.c.region, prices.c.effective_from)

# The ledger: rows are added and never changed or deleted. `amount` is in nano-units of the currency: what a hold
# reserves, what a settlement charges, what a payment or correction adds to the balance.
entries = Table(
    "entries",
    metadata,
    Column("seq", _NUMBER, primary_key=True, autoincrement=True),
    Column("receipt", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("account", String(64), nullable=False),
    Column("workspace", String(64), nullable=False, server_default=""),
    Column("key_id", String(32), nullable=False, server_default=""),
    Column("region", String(64), nullable=False, server_default=""),
    Column("model", String(128), nullable=False, server_default=""),
    Column("price_id", BigInteger),
    Column("amount", BigInteger, nullable=False),
    Column("reserved_tokens", BigInteger, nullable=False, server_default="0"),
    Column("prompt_tokens", BigInteger, nullable=False, server_default="0"),
    Column("cached_tokens", BigInteger, nullable=False, server_default="0"),
    Column("cache_creation_tokens", BigInteger, nullable=False, server_default="0"),
    Column(
        "explicit_cache", Boolean(create_constraint=False), nullable=False, server_default=false()
    ),
    Column("completion_tokens", BigInteger, nullable=False, server_default="0"),
    Column("reasoning_tokens", BigInteger, nullable=False, server_default="0"),
    Column("thinking", Boolean(create_constraint=False), nullable=False, server_default=false()),
    Column("free_prompt_tokens", BigInteger, nullable=False, server_default="0"),
    Column("free_completion_tokens", BigInteger, nullable=False, server_default="0"),
    Column("ending", String(24), nullable=False, server_default=""),
    Column("note", String(200), nullable=False, server_default=""),
    UniqueConstraint("receipt", "kind", name="uq_entries_receipt_kind"),
)
Index("ix_entries_at", entries.c.at)
Index("ix_entries_account", entries.c.account, entries.c.at)

# Sums of the ledger that are checked in the transaction which adds to it, by scope: an account's money, a budget in one
# period, a free quota (in tokens). `granted` is what was paid in or given.
funds = Table(
    "funds",
    metadata,
    Column("scope", String(240), primary_key=True),
    Column("granted", BigInteger, nullable=False, server_default="0"),
    Column("spent", BigInteger, nullable=False, server_default="0"),
    Column("held", BigInteger, nullable=False, server_default="0"),
)

# Holds that are open now; a working table, whose history is in `entries`. `claims` is JSON: what each scope holds.
holds = Table(
    "holds",
    metadata,
    Column("receipt", String(64), primary_key=True),
    Column("expires_at", BigInteger, nullable=False),
    Column("claims", Text, nullable=False),
)
Index("ix_holds_expires_at", holds.c.expires_at)

# Answers to requests that carried an Idempotency-Key. `id` is a hash of the account, the key and the client's word;
# `fingerprint` one of the request; `status` is null while the first request runs.
idempotency = Table(
    "idempotency",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("status", Integer),
    Column("headers", Text, nullable=False, server_default="[]"),
    Column("body", LargeBinary),
)
Index("ix_idempotency_expires_at", idempotency.c.expires_at)

admin_tokens = Table(
    "admin_tokens",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)

# What was done through the admin API and the command line, by whom (a token's id, or "cli").
audit = Table(
    "audit",
    metadata,
    Column("seq", _NUMBER, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", String(128), nullable=False, server_default=""),
    Column("detail", Text, nullable=False, server_default=""),
    Column("request_id", String(64), nullable=False, server_default=""),
)
Index("ix_audit_at", audit.c.at)
