"""The training run: packed rows in, checkpoints out, resumable at any of them.

Several worker processes share each step, one thread each: they meet once per step instead of at
every operation, so a machine that others use too is no slower than its free share.
"""

from __future__ import annotations

import csv
import os
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, multiprocessing, nn
from tqdm import tqdm

from training import packing, vocabulary
from training.model import Model
from training.packing import Dataset, Rows
from training.recipes import Recipe
from training.shape import Shape
from training.wiring import Held, wire_copying

LOSSES = "losses.csv"
KEEP_EVERY = 50  # steps between checkpoints


def checkpoint_file(folder: Path, rank: int = 0) -> Path:
    """Each worker keeps its own: the weights are the same, the optimizer's state is not."""
    return folder / f"checkpoint-{rank}.pt"


def new_model(dataset: Dataset, shape: Shape, seed: int) -> Model:
    torch.manual_seed(seed)
    trained = len(dataset.token_ids)
    model = Model(shape, trained, vocabulary.ROWS - trained)
    wire_copying(model)
    return model


class Stepper:
    """Muon for the matrices of the blocks, AdamW for the embedding and the norms.

    Muon is dear, so each worker steps its share of the matrices and hands them to the others.
    """

    def __init__(self, model: Model, recipe: Recipe, rank: int, workers: int) -> None:
        self.recipe = recipe
        named = dict(model.named_parameters())
        self.parameters = list(named.values())
        self.matrices = [p for name, p in named.items() if p.ndim == 2 and "embd" not in name]
        self.workers = workers
        # The k-th matrix of every block is of one shape, so counting on deals them out evenly.
        self.own = {id(p) for place, p in enumerate(self.matrices) if place % workers == rank}
        vectors = [p for name, p in named.items() if p.ndim == 1 or "embd" in name]
        self.muon = torch.optim.Muon(
            [p for p in self.matrices if id(p) in self.own],
            lr=recipe.matrix_rate,
            weight_decay=0.02,
        )
        self.adam = torch.optim.AdamW(
            vectors, lr=recipe.vector_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
        )

    def step(self, share: float) -> None:
        """`share` is the part of the full learning rates that holds now."""
        self._sum([p.grad for p in self.parameters if p.grad is not None])
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.muon.param_groups[0]["lr"] = self.recipe.matrix_rate * share
        self.adam.param_groups[0]["lr"] = self.recipe.vector_rate * share
        self.muon.step()
        self.adam.step()
        for parameter in self.parameters:
            parameter.grad = None
        if self.workers > 1:
            with torch.no_grad():
                for matrix in self.matrices:
                    if id(matrix) not in self.own:
                        matrix.zero_()
            self._sum([matrix.detach() for matrix in self.matrices])

    def _sum(self, tensors: list[Tensor]) -> None:
        if self.workers == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, values in zip(
            tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True
        ):
            tensor.copy_(values.view_as(tensor))

    def state(self) -> list[dict[str, object]]:
        return [self.muon.state_dict(), self.adam.state_dict()]

    def restore(self, state: list[dict[str, object]]) -> None:
        self.muon.load_state_dict(state[0])
        self.adam.load_state_dict(state[1])


def rate_share(step: int, recipe: Recipe) -> float:
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    if step < recipe.decay_from:
        return 1.0
    return (recipe.steps - step) / (recipe.steps - recipe.decay_from)


class Feeder:
    """Gives the same rows for the same step, whenever the run was interrupted."""

    def __init__(self, dataset: Dataset, recipe: Recipe) -> None:
        self.rows = packing.pack(dataset, recipe.seed)
        self.drill = packing.Drill(dataset, recipe.seed)
        self.recipe = recipe
        counts = (recipe.short_rows, recipe.long_rows)
        self.per_step = dict(zip(packing.ROW_LENGTHS, counts, strict=True))

    def batches(self, step: int) -> list[Rows]:
        chosen: list[Rows] = []
        for length, rows in self.rows.items():
            count = self.per_step[length]
            chosen.append(rows.take(np.arange(step * count, (step + 1) * count) % len(rows.tokens)))
        return chosen

    def drills(self, step: int) -> list[Rows]:
        wanted = step < self.recipe.drilled_to
        return [self.drill.batch(step, self.recipe.drill_rows)] if wanted else []


def answers_in(batches: list[Rows]) -> int:
    return sum(int((batch.targets >= 0).sum()) for batch in batches)


def learn(
    model: Model, feeder: Feeder, step: int, rank: int, workers: int, device: torch.device
) -> tuple[float, float]:
    """Adds this worker's part of the gradients.

    Returns its part of the mean loss and of the crowd's mean share, both over the corpus alone.
    """
    batches, drills = feeder.batches(step), feeder.drills(step)
    counted, answers = answers_in(batches), answers_in(batches + drills)
    loss_sum = crowd_sum = 0.0
    for place, batch in enumerate(batches + drills):
        mine = batch.take(np.arange(rank, len(batch.tokens), workers))
        with torch.autocast(device.type, torch.bfloat16):
            loss, crowd = model(
                _tensor(mine.tokens, device),
                _tensor(mine.positions, device),
                _tensor(mine.documents, device),
                _tensor(mine.targets, device),
            )
        (loss.sum() / answers).backward()
        if place < len(batches):
            loss_sum += float(loss.detach().sum())
            crowd_sum += float(crowd.sum())
    return loss_sum / counted, crowd_sum / counted


def _tensor(values: NDArray[np.integer], device: torch.device) -> Tensor:
    return torch.from_numpy(values.astype(np.int64)).to(device)


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

    def write(self, step: int, means: list[float], read: int, seconds: float) -> None:
        loss, crowd = means
        self.writer.writerow((step, f"{loss:.5f}", f"{crowd:.3e}", read, f"{seconds:.1f}"))
        self.bar.set_postfix(loss=f"{loss:.3f}", crowd=f"{crowd:.0e}", refresh=False)
        self.bar.update()


def work(
    rank: int,
    workers: int,
    folder: Path,
    dataset: Dataset,
    recipe: Recipe,
    shape: Shape,
    device_name: str,
) -> None:
    parent = os.getppid()
    if workers > 1:
        torch.set_num_threads(1)
        meeting = f"file://{folder.resolve() / 'meeting'}"
        distributed.init_process_group("gloo", meeting, rank=rank, world_size=workers)
    device = torch.device(device_name)
    model = new_model(dataset, shape, recipe.seed).to(device)
    stepper = Stepper(model, recipe, rank, workers)
    held = Held(model)
    first, spent, read = 0, 0.0, 0
    checkpoint = checkpoint_file(folder, rank)
    if checkpoint.exists():
        kept = torch.load(checkpoint, map_location=device)
        model.load_state_dict(kept["model"])
        stepper.restore(kept["stepper"])
        first, spent, read = kept["step"], kept["seconds"], kept["tokens"]
    feeder = Feeder(dataset, recipe)
    journal = Journal(folder, first, recipe.steps) if rank == 0 else None
    started = time.monotonic() - spent
    for step in range(first, recipe.steps):
        if workers > 1 and os.getppid() != parent:
            raise SystemExit("the main process is gone")
        model.round_embedding = step >= recipe.decay_from
        means = torch.tensor(learn(model, feeder, step, rank, workers, device))
        if workers > 1:
            distributed.all_reduce(means)
        stepper.step(rate_share(step, recipe))
        if step < recipe.held_to:
            held.restore()
        read += sum(int((batch.documents >= 0).sum()) for batch in feeder.batches(step))
        seconds = time.monotonic() - started
        if journal:
            journal.write(step, means.tolist(), read, seconds)
        if (step + 1) % KEEP_EVERY == 0 or step + 1 == recipe.steps:
            state = {"model": model.state_dict(), "stepper": stepper.state()}
            save(checkpoint, {**state, "step": step + 1, "seconds": seconds, "tokens": read})
            if journal:
                journal.file.flush()
    if workers > 1:
        distributed.destroy_process_group()


def train(
    folder: Path, dataset: Dataset, recipe: Recipe, shape: Shape, device: str, workers: int
) -> None:
    """Leaves the trained weights in the first worker's checkpoint."""
    if workers == 1:
        work(0, 1, folder, dataset, recipe, shape, device)
        return
    (folder / "meeting").unlink(missing_ok=True)
    multiprocessing.spawn(work, (workers, folder, dataset, recipe, shape, device), nprocs=workers)
