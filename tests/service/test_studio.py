"""What the service says of its deployments."""

from prometheus_client.parser import text_string_to_metric_families

from ownstudio.catalog import Catalog
from ownstudio.metrics import Metrics
from ownstudio.service.studio import Studio
from support.desk import desk
from support.scripted import ScriptedEngine
from support.studio import deployment


def test_a_deployment_that_could_not_be_built_is_an_engine_that_is_away() -> None:
    metrics = Metrics()
    home = deployment(ScriptedEngine([]))
    Studio(Catalog([]), {"test": home}, {"broken": "no weights"}, desk(), metrics, 10).observe()
    samples = {
        (sample.name, sample.labels.get("deployment")): sample.value
        for family in text_string_to_metric_families(metrics.page().decode())
        for sample in family.samples
    }
    assert samples["ownstudio_engine_ready", "test"] == 1
    assert samples["ownstudio_engine_ready", "broken"] == 0
