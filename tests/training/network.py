"""The network and its wiring, with PyTorch, which the suite does not install: `make test-training`."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from training.chat import render
from training.corpus import tools
from training.corpus.conversation import user
from training.corpus.source import Source
from training.model import Given, Model, turn
from training.muon import orthogonalized
from training.packing import Batch, Dataset
from training.shape import Shape
from training.train import new_model
from training.vocabulary import tokenizer

from training import packing, wiring

CPU = torch.device("cpu")
ROWS = 3_000


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    chance = np.random.default_rng(1)
    tokens = chance.integers(ROWS, size=4_000).astype(np.int32)
    starts = np.arange(0, 4_001, 200)
    return Dataset(np.arange(ROWS), tokens, chance.random(4_000) < 0.4, starts, 5, 20)


@pytest.fixture
def model(dataset: Dataset) -> Model:
    return new_model(dataset, Shape(), seed=1)


def flat(tokens: list[int], targets: list[int]) -> Batch:
    size = len(tokens)
    return Batch(np.array(tokens), np.arange(size), np.array(targets), (size,))


def loss_of(model: Model, batch: Batch) -> Tensor:
    loss, _ = model(Given.of(batch, ROWS, CPU))
    assert isinstance(loss, Tensor)
    return loss


def test_arbitrary_tokens_are_copied_before_the_first_step(model: Model) -> None:
    chance = np.random.default_rng(2)
    for distance in (20, 300):
        stretch = chance.choice(ROWS, distance, replace=False).tolist()
        again = [*stretch, *stretch]
        targets = [-1] * distance + stretch[1:] + [-1]
        with torch.no_grad():
            states = model.states(Given.of(flat(again, targets), ROWS, CPU))
            said = (states @ model.token_embd.weight[:-1].T).argmax(1).tolist()
        right = sum(one == other for one, other in zip(said, stretch[1:], strict=True))
        assert right > 0.9 * len(said), (distance, right)


def test_heads_of_the_first_layer_look_one_and_two_back(model: Model) -> None:
    block, size = model.block(0), 600
    x = torch.zeros(size, model.shape.hidden)
    x[:, 0] = 1.0
    angles = (torch.arange(size).unsqueeze(-1) * model.speeds).unsqueeze(1)
    turns = (angles.cos(), angles.sin())
    with torch.no_grad():
        query = turn(block.attn_q_norm(block.attn_q(x).view(size, -1, 64)), turns)
        key = turn(block.attn_k_norm(block.attn_k(x).view(size, -1, 64)), turns)
    future = torch.ones(size, size).triu(1) > 0
    for back in (1, 2):
        scores = (query[:, back - 1] @ key[:, 0].T / 8).masked_fill(future, -torch.inf)
        seen = scores.softmax(-1).diagonal(-back)
        assert seen[5:].min() > 0.95, back


def test_what_a_batch_does_not_want_is_told_from_and_stands_still(
    dataset: Dataset, model: Model
) -> None:
    batch = packing.Packed(dataset, 1_000, seed=5).batch(0)
    given = Given.of(batch, ROWS, CPU)
    asked = batch.targets[batch.targets >= 0]
    wanted = set(asked.tolist())
    assert set(given.shown[: given.wanted].tolist()) == wanted | {ROWS}
    assert given.shown[given.targets].tolist() == asked.tolist()
    assert len(given.shown.unique()) == len(given.shown)
    assert given.others == ROWS - len(wanted)
    loss, _ = model(given)
    loss.mean().backward()
    gradient = model.token_embd.weight.grad
    assert gradient is not None
    moved = set(gradient.abs().sum(1).nonzero().squeeze(1).tolist())
    assert wanted <= moved <= wanted | {ROWS} | set(batch.tokens.tolist())


def test_a_sample_stands_for_all_others(dataset: Dataset, model: Model) -> None:
    batch = packing.Packed(dataset, 1_000, seed=5).batch(0)
    given = Given.of(batch, ROWS, CPU)
    with torch.no_grad():
        loss, crowd = model(given)
        logits = model.states(given) @ model.token_embd.weight.T
        logits[:, -1] += model.crowd
        targets = torch.from_numpy(batch.targets[batch.targets >= 0])
        exact = torch.nn.functional.cross_entropy(logits, targets)
        shares = logits.softmax(1)[:, -1]
    assert loss.mean().item() == pytest.approx(exact.item(), rel=0.05)
    assert crowd.mean().item() == pytest.approx(shares.mean().item(), rel=0.3)


def test_the_wired_weights_are_held_and_the_others_learn(dataset: Dataset, model: Model) -> None:
    own = {id(parameter) for parameter in model.parameters()}
    held = wiring.Held(model, own)
    before = {name: values.clone() for name, values in model.state_dict().items()}
    batch = packing.Packed(dataset, 1_000, seed=5).batch(0)
    loss_of(model, batch).mean().backward()
    held.still()
    gradient = model.block(0).attn_q.weight.grad
    assert gradient is not None
    assert not gradient[: 4 * wiring.WIDTH].any()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    held.restore()
    after = model.state_dict()
    wired = 4 * wiring.WIDTH
    assert torch.equal(after["blk.0.attn_q.weight"][:wired], before["blk.0.attn_q.weight"][:wired])
    assert not torch.equal(after["blk.0.attn_q.weight"], before["blk.0.attn_q.weight"])
    shared = 2 * wiring.WIDTH
    one, other = (state["blk.1.attn_k.weight"][:shared] for state in (after, before))
    assert torch.equal(one, other)
    one, other = (state["token_embd.weight"][:, :2] for state in (after, before))
    assert torch.equal(one, other)


def test_a_word_begins_like_its_other_forms_and_like_its_pieces(dataset: Dataset) -> None:
    def row(text: str) -> int:
        (token,) = tokenizer().encode(text).ids
        return token

    asked = [row(text) for text in (" Frankfurt", "Frank", "furt", " time", "time", " red")]
    made = Model(Shape(), len(asked), 100)
    wiring.wire_copying(made, asked, [])
    rows = made.token_embd.weight[:, wiring.NAMED].detach()
    frankfurt, frank, furt, time, bare_time, red = range(6)

    def alike(one: int, other: int) -> float:
        return torch.cosine_similarity(rows[one], rows[other], dim=0).item()

    assert alike(time, bare_time) > 0.5
    assert alike(frankfurt, frank) > 0.25
    assert abs(alike(time, frank)) < 0.3
    assert alike(time, bare_time) > alike(time, red)
    assert abs(alike(frank, furt)) < 0.3


def test_the_first_name_of_a_parameter_is_found_before_the_first_step() -> None:
    """By the words around: what stands before it stands before every other name, too."""
    source = Source(5, held_out=False)
    written: list[list[int]] = []  # each ends with the token to be found
    while len(written) < 40:
        talk = tools.mixed(source)
        steps = talk.tasks[0].steps
        if not steps or not steps[0].arguments:
            continue
        form = tools.tool_form(source)
        lead = '"arguments": {"' if form == "json" else "<parameter="
        given = [user(talk.tasks[0].request), tools.call(steps[0])]
        text = render(given, talk.tools, tool_form=form)
        place = text.index(lead, text.rindex("<|im_start|>assistant")) + len(lead)
        encoded = tokenizer().encode(text)
        # Where the name's first token is foreseen: alone, or after a quotation mark.
        first = next(at for at, (_, end) in enumerate(encoded.offsets) if end > place)
        written.append(encoded.ids[: first + 1])
    # Which tokens are frequent is counted in text of every kind.
    others = [tokens for tokens, _ in packing.write("5", 60_000, "everything")]
    tokens = np.concatenate([*written, *others])
    token_ids, rows = np.unique(tokens, return_inverse=True)
    starts = np.cumsum([0, *(len(ids) for ids in written)])
    marks = np.zeros(len(tokens), bool)
    read = Dataset(token_ids, rows.astype(np.int32), marks, starts, 1, 2)
    model = new_model(read, Shape(), seed=1)
    right = 0
    for first, last in pairwise(starts):
        batch = flat(rows[first : last - 1].tolist(), [-1] * (last - first - 2) + [rows[last - 1]])
        with torch.no_grad():
            states = model.states(Given.of(batch, len(token_ids), CPU))
            said = (states @ model.token_embd.weight[:-1].T).argmax(1)
        right += int(said[0]) == rows[last - 1]
    assert right > 0.8 * len(written), right


@pytest.mark.parametrize("shape", [(320, 384), (384, 320), (128, 320)])
def test_muon_makes_all_singular_values_alike(shape: tuple[int, int]) -> None:
    torch.manual_seed(3)
    values = torch.linalg.svdvals(orthogonalized(torch.randn(shape)))
    assert values.min() > 0.3
    assert values.max() < 1.3
