"""Writes the example file and the settings page: `python -m ownstudio.settings DIRECTORY`."""

import sys
from pathlib import Path

from ownstudio.settings.documents import write_documents

for path in write_documents(Path(sys.argv[1] if len(sys.argv) > 1 else ".")):
    sys.stdout.write(f"{path}\n")
