"""One command: corpus, training, GGUF, loss curve. See README.md."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from training import export, packing
from training.quieting import quiet_crowd
from training.recipes import RECIPES
from training.shape import Shape
from training.train import Feeder, checkpoint_file, new_model, train

HERE = Path(__file__).parent
QUIETING_BATCHES = 16  # they show where untrained tokens are still too probable
BUNDLED = HERE.parent / "src" / "ownstudio" / "bundled" / "ownstudio-tiny.gguf"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--recipe", choices=RECIPES, default="cpu")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--workers", type=int, default=2, help="processes; 1 on a GPU")
    parser.add_argument("--run", type=Path, default=HERE / "run", help="checkpoints and caches")
    parser.add_argument("--output", type=Path, default=BUNDLED)
    parser.add_argument(
        "--export-only", action="store_true", help="write the GGUF of the last checkpoint"
    )
    chosen = parser.parse_args()
    recipe, shape = RECIPES[chosen.recipe], Shape()
    folder = chosen.run / chosen.recipe
    dataset = packing.load(folder, recipe.seed, recipe.stages)
    print(f"{len(dataset.tokens):,} tokens, {len(dataset.token_ids):,} rows of the embedding")
    if not chosen.export_only:
        train(folder, dataset, recipe, shape, chosen.device, chosen.workers)
    model = new_model(dataset, shape, recipe.seed)
    model.load_state_dict(torch.load(checkpoint_file(folder), map_location="cpu")["model"])
    feeder = Feeder(dataset, recipe)
    quiet_crowd(model, [feeder.packed.batch(number) for number in range(QUIETING_BATCHES)])
    state = model.state_dict()
    weights = {name: values.numpy().astype(np.float32) for name, values in state.items()}
    export.write_model(chosen.output, shape, weights, dataset.token_ids)
    print(f"{chosen.output}: {chosen.output.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
