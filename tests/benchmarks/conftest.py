"""The benchmarks are a package beside `src`, and they need /proc."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

collect_ignore = [] if sys.platform == "linux" else ["test_benchmarks.py"]
