"""Writes the pages that are made from the code: `python -m ownstudio.app.documents [--check]`, at the root.

With `--check` nothing is written, and a page that is out of date ends it with status 1.
"""

import sys
from pathlib import Path

from ownstudio.catalog import models_page_markdown
from ownstudio.dialects.parameters_page import parameters_page_markdown
from ownstudio.metrics import metrics_page_markdown
from ownstudio.settings.documents import example_file, settings_page

PAGES = {
    "docs/metrics.md": metrics_page_markdown,
    "docs/models.md": models_page_markdown,
    "docs/parameters.md": parameters_page_markdown,
    "docs/settings.md": settings_page,
    "ownstudio.example.toml": example_file,
}


def main(arguments: list[str], root: Path) -> int:
    """The exit status."""
    pages = {root / path: make() for path, make in PAGES.items()}
    stale = {
        path: page
        for path, page in pages.items()
        if not path.exists() or path.read_text("utf-8") != page
    }
    for path, page in stale.items():
        if "--check" in arguments:
            sys.stderr.write(f"{path} is out of date: run make docs\n")
        else:
            path.write_text(page, "utf-8")
            sys.stdout.write(f"{path}\n")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path()))
