"""The last word on untrained tokens: their shared row alone is moved, until it is improbable.

The network learns to shun the shared row wherever it is sure of something; where it hesitates, a
little of the probability stays there. No answer ever needs it, so at the end the row is fitted by
itself, on rows of the training corpus, with everything else standing still.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.model import Given, Model, rounded_as_q4_0
from training.packing import Batch

LOG_SHARE = -13.0  # what the row aims at everywhere: two millionths
STEPS, RATE = 400, 0.01


def quiet_crowd(model: Model, batches: list[Batch]) -> None:
    model.round_embedding = True
    states, others = _states(model, batches)
    row = model.token_embd.weight.detach()[-1].clone().requires_grad_()
    optimizer = torch.optim.Adam([row], lr=RATE)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        logits = states @ rounded_as_q4_0(row) + model.crowd
        excess = functional.relu(logits - others - LOG_SHARE)
        optimizer.zero_grad()
        torch.autograd.backward(excess.square().mean())
        optimizer.step()
    with torch.no_grad():
        model.token_embd.weight[-1] = row


def _states(model: Model, batches: list[Batch]) -> tuple[Tensor, Tensor]:
    """The states at all supervised places, and the weight of all trained tokens there."""
    trained = torch.arange(len(model.token_embd.weight) - 1)
    with torch.no_grad():
        given = [Given.of(batch, len(trained), trained.device) for batch in batches]
        joined = torch.cat([model.states(each).float() for each in given])
        return joined, (joined @ model.rows(trained).T).logsumexp(1)
