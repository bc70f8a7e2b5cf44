"""What the real service is known to answer, as requests and shapes that any server can be held to.

`cases_*` are data: what is sent, what has to come back, and where that is known from. `shapes` and `rules` say how an
answer differs, `exchange` sends and receives, `run` puts them together, `report` prints. Nothing here knows how
Ownstudio works inside: it is judged like any other server.
"""

from ownstudio.conformance.report import as_json, print_table
from ownstudio.conformance.run import Outcome, Target, Unreachable, cases_for, run_cases

__all__ = [
    "Outcome",
    "Target",
    "Unreachable",
    "as_json",
    "cases_for",
    "print_table",
    "run_cases",
]
