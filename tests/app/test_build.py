"""Deployments as settings build them: what is wrong with one is its own fault."""

from pathlib import Path

from ownstudio.app.build import build_deployment
from ownstudio.settings import Deployment


async def test_weights_at_a_path_that_the_system_refuses_are_a_fault_of_their_deployment(
    tmp_path: Path,
) -> None:
    settings = Deployment(weights=str(tmp_path / ("x" * 300)))
    built = await build_deployment("mine", settings, tmp_path, tmp_path)
    assert built.deployment is None
    assert "File name too long" in built.fault
