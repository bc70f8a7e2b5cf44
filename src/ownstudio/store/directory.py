"""The data directory: what lies in it, and that nobody else on the machine can read it."""

import os
import secrets
from pathlib import Path

PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600


class StoreError(Exception):
    """The store cannot be used; the text is for the operator and says what to do."""


class DataDirectory:
    """The paths below one data directory. Nothing exists before `prepare`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "ownstudio.db"
        self.first_key = path / "first-key"
        self.admin_token = path / "admin-token"
        self.models = path / "models"

    def prepare(self) -> None:
        """Make the directory, closed to all other users, unless it exists. Raises StoreError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the data directory {self.path} cannot be made: {error.strerror or error}; "
                "choose another with --data"
            ) from None
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise StoreError(
                f"the data directory {self.path} cannot be written to; choose another with --data"
            )


def create_private(path: Path) -> None:
    """Make an empty file that its owner alone can read, unless it exists."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, PRIVATE_FILE))


def write_first_secret(path: Path, secret: str, what: str) -> None:
    """Put a secret where its owner alone can read it. Raises StoreError, saying `what` could not be written."""
    try:
        write_private(path, f"{secret}\n")
    except OSError as error:
        raise StoreError(
            f"the {what} cannot be written to {path}: {error.strerror or error}"
        ) from None


def write_private(path: Path, text: str) -> None:
    """Put a file in place whole, so that no reader sees half of it and no other user ever sees it."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_FILE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
