"""The steps from an empty database to today's schema, in order, under `versions`.

A step that has been released is never edited. Each begins from the tables that the steps before it left, so it names
columns itself and imports nothing from `schema`.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from ownstudio.store.directory import StoreError


def upgrade(connection: Connection) -> None:
    """Bring a database to today's schema inside the caller's transaction. Raises StoreError."""
    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError(
            "the database was written by a newer Ownstudio, or is not one of its databases "
            f"({error}); upgrade Ownstudio or choose another directory with --data"
        ) from None


def head() -> str | None:
    """The name of the last step."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    # A percent sign would begin a placeholder of the ini format that Alembic's settings keep.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
