"""A bar for each figure: how much of its budget it uses. Plain SVG, so that no plotting package is needed."""

from collections.abc import Sequence
from html import escape

from benchmarks.figures import Figure

WIDTH = 860
LABEL_WIDTH = 430
BAR_HEIGHT = 16
ROW_HEIGHT = 26
TOP = 34
# The budget's line stands here; what uses more of it than the picture is wide is cut off there.
LIMIT_WIDTH = 220
MET = "#2f7d4f"
MISSED = "#b3382c"


def picture(figures: Sequence[Figure]) -> str:
    height = TOP + ROW_HEIGHT * len(figures) + 10
    limit_x = LABEL_WIDTH + LIMIT_WIDTH
    rows = "\n".join(_row(figure, TOP + ROW_HEIGHT * index) for index, figure in enumerate(figures))
    font = 'font-family="sans-serif" font-size="12"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {font}>
<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>
<text x="{limit_x}" y="18" text-anchor="middle" fill="#444444">budget: shorter is better</text>
{rows}
<line x1="{limit_x}" y1="24" x2="{limit_x}" y2="{height - 8}" stroke="#444444" stroke-dasharray="4 3"/>
</svg>
"""


def share_of_budget(figure: Figure) -> float:
    """1 is exactly the budget, less is better, whichever way the budget is bound; never below 0."""
    limit, value = figure.budget.limit, figure.value
    if figure.budget.at_least:
        return limit / value if value > 0 else float("inf")
    return max(0.0, value / limit)


def _row(figure: Figure, y: int) -> str:
    width = min(share_of_budget(figure) * LIMIT_WIDTH, WIDTH - LABEL_WIDTH - 90)
    colour = MET if figure.met else MISSED
    middle = y + BAR_HEIGHT - 4
    return (
        f'<text x="{LABEL_WIDTH - 8}" y="{middle}" text-anchor="end" fill="#222222">{escape(figure.what)}</text>'
        f'<rect x="{LABEL_WIDTH}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}" fill="{colour}"/>'
        f'<text x="{LABEL_WIDTH + width + 6:.1f}" y="{middle}" fill="#222222">{escape(figure.value_words())}</text>'
    )
