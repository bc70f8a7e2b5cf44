"""The tables as they are now. `migrations` holds the steps that lead here; a test compares the two.

Every change needs a new step, and `SCHEMA_VERSION` the name of the last one.
"""

from sqlalchemy import BigInteger, Column, Index, MetaData, String, Table

SCHEMA_VERSION = "0001"

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
)
Index("ix_keys_revision", keys.c.revision, unique=True)
