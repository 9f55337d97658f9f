"""DeepID2's verification signal against loops and pytorch-metric-learning."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import ContrastiveLoss
from pytorch_metric_learning.reducers import DoNothingReducer

from training.losses.contrastive import contrastive


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1, 1, 2, -1, 0, 3, -1, 2, 0])
    return torch.randn(10, 4, generator=generator, dtype=torch.float64), labels


def test_it_is_the_mean_over_pairs_of_known_samples() -> None:
    embeddings, labels = _batch()
    losses = []
    for i in range(10):
        for j in range(i):
            if labels[i] >= 0 and labels[j] >= 0:
                distance = np.linalg.norm(embeddings[i] - embeddings[j])
                same = labels[i] == labels[j]
                losses.append(distance**2 / 2 if same else max(0.0, 2.5 - distance) ** 2 / 2)
    assert contrastive(embeddings, labels, margin=2.5).item() == pytest.approx(np.mean(losses), rel=1e-12)


def test_it_is_half_the_square_of_pytorch_metric_learnings() -> None:
    embeddings, labels = _batch()
    known = labels >= 0
    peer = ContrastiveLoss(0, 2.5, distance=LpDistance(normalize_embeddings=False), reducer=DoNothingReducer())
    parts = peer(embeddings[known], labels[known])
    pairs = torch.cat([parts["pos_loss"]["losses"], parts["neg_loss"]["losses"]])
    torch.testing.assert_close(contrastive(embeddings, labels, 2.5), (pairs**2 / 2).mean())


def test_the_gradient_is_exact() -> None:
    embeddings, labels = _batch()
    assert torch.autograd.gradcheck(lambda x: contrastive(x, labels, 2.5), (embeddings.requires_grad_(),))


def test_equal_embeddings_have_a_finite_gradient() -> None:
    embeddings = torch.ones(4, 3, requires_grad=True)
    loss = contrastive(embeddings, torch.tensor([0, 0, 1, 1]), margin=1.0)
    (gradient,) = torch.autograd.grad(loss, embeddings)
    assert loss.item() == pytest.approx(4 / 6 * 0.5)  # the four pairs of two identities, at distance 0
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("labels", [[-1, -1, -1], [-1, 4, -1]])
def test_without_a_pair_it_is_zero_and_connected(labels: list[int]) -> None:
    embeddings = torch.randn(3, 4, requires_grad=True)
    loss = contrastive(embeddings, torch.tensor(labels))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(embeddings.grad, torch.zeros(3, 4))


def test_half_precision_is_computed_in_float32() -> None:
    embeddings, labels = _batch()
    half = embeddings.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrastive(half, labels, 2.5)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, contrastive(half.double(), labels, 2.5).float())
