"""The page of metrics names each as it is scraped."""

import re

from ownstudio.metrics import Metrics, metrics_page_markdown


def test_the_table_is_what_is_scraped() -> None:
    metrics = Metrics()
    scraped = re.findall(r"^# TYPE (\S+) (\S+)$", metrics.page().decode(), re.MULTILINE)
    listed = [(name, kind) for name, kind, _, _ in metrics.table()]
    # Prometheus adds a gauge of its own to each counter and histogram: when it began.
    assert [row for row in scraped if not row[0].endswith("_created")] == listed


def test_each_metric_is_on_the_page() -> None:
    page = metrics_page_markdown()
    for name, _, labels, told in Metrics().table():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert told in row
        assert all(f"`{label}`" in row for label in labels)
