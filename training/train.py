"""The training run: packed rows in, checkpoints out, resumable at any of them.

Several worker processes share the weights and each step, one thread each: they meet twice per step
instead of at every operation, so a machine that others use too is no slower than its free share.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, multiprocessing
from tqdm import tqdm

from training import packing, vocabulary
from training.model import Given, Model
from training.muon import Muon
from training.packing import Batch, Dataset
from training.recipes import Recipe
from training.shape import Shape
from training.wiring import Held, wire_copying

LOSSES = "losses.csv"
COMMON_ROWS = 200  # of the most frequent tokens, which say little about where they stand
KEEP_EVERY = 50  # steps between checkpoints
MOST_NORM = 1.0  # of all gradients together: above, they are scaled down

# For the workers: freed memory and the kernels made for a shape are kept, as both come again.
KEEPING = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": str(2**14),
}


def checkpoint_file(folder: Path, rank: int = 0) -> Path:
    """Each worker keeps its own: the weights are the same, the optimizer's state is not."""
    return folder / f"checkpoint-{rank}.pt"


def new_model(dataset: Dataset, shape: Shape, seed: int) -> Model:
    torch.manual_seed(seed)
    trained = len(dataset.token_ids)
    model = Model(shape, trained, vocabulary.ROWS - trained)
    counts = np.bincount(dataset.tokens, minlength=trained + 1)[:trained]
    common = np.argsort(-counts, kind="stable")[:COMMON_ROWS]
    wire_copying(model, dataset.token_ids.tolist(), common.tolist())
    return model


class Stepper:
    """Muon for the matrices of the blocks, AdamW for the embedding and the norms.

    The weights lie in shared memory and each worker steps its part of them: Muon is dear.
    """

    def __init__(self, model: Model, recipe: Recipe, rank: int, workers: int) -> None:
        self.recipe = recipe
        named = dict(model.named_parameters())
        vectors = [p for name, p in named.items() if p.ndim == 1 or "embd" in name]
        matrices = [p for name, p in named.items() if p.ndim == 2 and "embd" not in name]
        # The k-th matrix of every block is of one shape, so counting on deals them out evenly.
        dealt = matrices[rank::workers]
        self.muon = Muon(dealt, lr=recipe.matrix_rate, weight_decay=0.02)
        self.optimizers: list[torch.optim.Optimizer] = [self.muon]
        self.own = {id(p) for p in dealt}
        if rank == workers - 1:
            self.optimizers.append(
                torch.optim.AdamW(
                    vectors,
                    lr=recipe.vector_rate,
                    betas=(0.9, 0.98),
                    weight_decay=0.0,
                    fused=True,
                )
            )
            self.own |= {id(p) for p in vectors}

    def step(self, share: float) -> None:
        """`share` is the part of the full learning rates that holds now."""
        for optimizer in self.optimizers:
            is_muon = optimizer is self.muon
            full = self.recipe.matrix_rate if is_muon else self.recipe.vector_rate
            optimizer.param_groups[0]["lr"] = full * share
            optimizer.step()

    def state(self) -> list[dict[str, object]]:
        return [optimizer.state_dict() for optimizer in self.optimizers]

    def restore(self, state: list[dict[str, object]]) -> None:
        for optimizer, kept in zip(self.optimizers, state, strict=True):
            optimizer.load_state_dict(kept)


class Gradients:
    """Every worker's gradients, flat and in shared memory, and their sum, which each makes."""

    def __init__(self, model: Model, flat: Sequence[Tensor], rank: int) -> None:
        self.flat = flat
        self.parameters = list(model.parameters())
        self.own = flat[rank]
        self.sum = torch.empty_like(self.own) if len(flat) > 1 else self.own

    def clear(self) -> None:
        self.own.zero_()
        self._give(self.own)

    def gather(self) -> None:
        if len(self.flat) > 1:
            torch.add(self.flat[0], self.flat[1], out=self.sum)
            for more in self.flat[2:]:
                self.sum += more
        self.sum.mul_((MOST_NORM / (self.sum.norm() + 1e-6)).clamp(max=1.0))
        self._give(self.sum)

    def _give(self, flat: Tensor) -> None:
        parts = flat.split([parameter.numel() for parameter in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)


def rate_share(step: int, recipe: Recipe) -> float:
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    if step < recipe.decay_from:
        return 1.0
    if step < recipe.polish_from:
        return (recipe.polish_from - step) / (recipe.polish_from - recipe.decay_from)
    return recipe.polish_share * (recipe.steps - step) / (recipe.steps - recipe.polish_from)


class Feeder:
    """Gives the same documents for the same step, whenever the run was interrupted."""

    def __init__(self, dataset: Dataset, recipe: Recipe) -> None:
        self.packed = packing.Packed(dataset, recipe.batch_tokens, recipe.seed)
        self.drill = packing.Drill(dataset, recipe.drill_tokens, recipe.seed)


def learn(
    model: Model, batch: Batch, drill: Batch, workers: int, device: torch.device
) -> tuple[float, float]:
    """Adds the gradients of one worker's batch.

    Returns its mean loss and the crowd's mean share, both over the corpus alone.
    """
    rows = len(model.token_embd.weight) - 1
    given = Given.of(packing.joined([batch, drill]), rows, device)
    loss, crowd = model(given)
    (loss.mean() / workers).backward()
    return float(loss.detach()[: batch.answers].mean()), float(crowd[: batch.answers].mean())


def save(path: Path, state: dict[str, object]) -> None:
    unfinished = path.with_suffix(".unfinished")
    torch.save(state, unfinished)
    os.replace(unfinished, path)


class Journal:
    """The progress bar and the list of losses; only the first worker writes."""

    def __init__(self, folder: Path, first: int, steps: int) -> None:
        self.file = (folder / LOSSES).open("a", newline="")
        self.writer = csv.writer(self.file)
        self.bar = tqdm(initial=first, total=steps, mininterval=10)

    def write(self, step: int, loss: float, crowd: float, read: int, seconds: float) -> None:
        self.writer.writerow((step, f"{loss:.5f}", f"{crowd:.3e}", read, f"{seconds:.1f}"))
        self.bar.set_postfix(loss=f"{loss:.3f}", crowd=f"{crowd:.0e}", refresh=False)
        self.bar.update()


def work(
    rank: int,
    meeting: Barrier,
    folder: Path,
    dataset: Dataset,
    recipe: Recipe,
    model: Model,
    flat: Sequence[Tensor],
    seen: Tensor,
) -> None:
    parent, workers, device = os.getppid(), len(flat), flat[rank].device
    if workers > 1:
        torch.set_num_threads(1)
    stepper, gradients = Stepper(model, recipe, rank, workers), Gradients(model, flat, rank)
    first, spent, read = 0, 0.0, 0
    held = Held(model, stepper.own)
    checkpoint = checkpoint_file(folder, rank)
    kept: dict[str, Any] = {}
    if checkpoint.exists():
        kept = torch.load(checkpoint, map_location=device)
        stepper.restore(kept["stepper"])
        first, spent, read = kept["step"], kept["seconds"], kept["tokens"]
    seen[rank] = first
    meeting.wait()  # all have noted the weights that are held
    if seen.unique().numel() > 1:
        raise SystemExit(f"the checkpoints are of different steps: remove {folder}")
    if first and rank == 0:
        model.load_state_dict(kept["model"])
    meeting.wait()  # all weights are there
    feeder = Feeder(dataset, recipe)
    journal = Journal(folder, first, recipe.steps) if rank == 0 else None
    started = time.monotonic() - spent
    for step in range(first, recipe.steps):
        if workers > 1 and os.getppid() != parent:
            raise SystemExit("the main process is gone")
        model.round_embedding = step >= recipe.round_from
        number = step * workers + rank
        batch = feeder.packed.batch(number, polish=step >= recipe.polish_from)
        gradients.clear()
        means = learn(model, batch, feeder.drill.batch(number), workers, device)
        seen[rank] = torch.tensor((*means, len(batch.tokens)))
        meeting.wait()  # all gradients are there
        gradients.gather()
        held.still()
        stepper.step(rate_share(step, recipe))
        held.restore()
        loss, crowd, tokens = seen.T.tolist()
        read += int(sum(tokens))
        meeting.wait()  # all weights are there
        seconds = time.monotonic() - started
        if journal:
            journal.write(step, sum(loss) / workers, sum(crowd) / workers, read, seconds)
        if (step + 1) % KEEP_EVERY == 0 or step + 1 == recipe.steps:
            state = {"model": model.state_dict(), "stepper": stepper.state()}
            save(checkpoint, {**state, "step": step + 1, "seconds": seconds, "tokens": read})
            meeting.wait()  # the weights stand still while they are written
            if journal:
                journal.file.flush()


def train(
    folder: Path, dataset: Dataset, recipe: Recipe, shape: Shape, device: str, workers: int
) -> None:
    """Leaves the trained weights in the first worker's checkpoint."""
    model = new_model(dataset, shape, recipe.seed).to(device).share_memory()
    size = sum(parameter.numel() for parameter in model.parameters())
    flat = [torch.zeros(size, device=device).share_memory_() for _ in range(workers)]
    seen = torch.zeros(workers, 3, dtype=torch.float64).share_memory_()
    meeting = multiprocessing.get_context("spawn").Barrier(workers)
    given = (meeting, folder, dataset, recipe, model, flat, seen)
    if workers == 1:
        work(0, *given)
        return
    os.environ.update(KEEPING)
    multiprocessing.spawn(work, given, nprocs=workers)
