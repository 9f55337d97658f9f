"""Sub-center ArcFace's cleaning: planted noise is found, and nothing else is."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import SubCenterArcFaceLoss

from training.losses.cleaning import clean


def _direction(degrees: float, length: float = 1.0) -> list[float]:
    return [length * np.cos(np.radians(degrees)), length * np.sin(np.radians(degrees))]


# One class with its dominant sub-centre at 0 degrees and minor ones at 60 and 180.
CENTRES = torch.tensor([[_direction(60, 3), _direction(0), _direction(180)]])
SAMPLES = torch.tensor([_direction(angle, 5) for angle in (-5, 10, 20, -74, -76, 50, 170)])
LABELS = torch.zeros(7, dtype=torch.int64)


def test_minor_centres_and_samples_beyond_75_degrees_go() -> None:
    cleaning = clean(SAMPLES, LABELS, CENTRES)
    assert cleaning.dominant.tolist() == [1]
    torch.testing.assert_close(cleaning.centres, torch.tensor([_direction(0)]))
    assert cleaning.keep.tolist() == [True, True, True, True, False, False, False]


def test_the_papers_recipe_keeps_a_hard_sample_of_a_minor_centre() -> None:
    cleaning = clean(SAMPLES, LABELS, CENTRES, minor="keep")
    assert cleaning.keep.tolist() == [True, True, True, True, False, True, False]


def test_the_angle_is_a_choice() -> None:
    assert clean(SAMPLES, LABELS, CENTRES, degrees=15).keep.sum() == 2


def test_the_papers_recipe_is_pytorch_metric_learnings() -> None:
    torch.manual_seed(0)
    classes, size = 6, 5
    centres = torch.randn(classes, 3, size)
    labels = torch.randint(0, classes - 1, (300,))  # the last class has no sample
    embeddings = centres[labels, torch.randint(0, 3, (300,))] + torch.randn(300, size)
    peer = SubCenterArcFaceLoss(num_classes=classes, embedding_size=size, sub_centers=3)
    peer.W.data = centres.reshape(-1, size).T.contiguous()
    outliers, dominant = peer.get_outliers(embeddings, labels)
    cleaning = clean(embeddings, labels, centres, minor="keep")
    assert sorted(outliers.tolist()) == torch.nonzero(~cleaning.keep)[:, 0].tolist()
    assert cleaning.keep.any()
    expected = torch.nn.functional.normalize(dominant.T, dim=1)[: classes - 1]
    torch.testing.assert_close(cleaning.centres[: classes - 1], expected)


def test_a_label_without_centre_is_named() -> None:
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 1\), not \[0, 4\]"):
        clean(SAMPLES[:2], torch.tensor([0, 4]), CENTRES)
