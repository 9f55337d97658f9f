"""The resume state: whole or absent, and read by any number of ranks."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.state_dict_saver import save

from training.state import Rows, SavedState, StateError, save_state


def test_what_is_saved_is_found_and_the_last_alone_is_kept(tmp_path: Path) -> None:
    assert SavedState.find(tmp_path) is None
    for step in (3, 7):
        save_state(tmp_path, f"step-{step}", {"a": torch.full((2,), step), "b": torch.tensor(0.5)}, {}, leads=True)
    saved = SavedState.find(tmp_path)
    assert saved is not None
    assert saved.path.name == "step-7"
    assert saved.whole()["a"].tolist() == [7, 7]
    assert saved.whole()["b"].item() == 0.5
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-7"]


def test_a_kill_while_saving_leaves_the_state_before(tmp_path: Path) -> None:
    save_state(tmp_path, "step-3", {"a": torch.zeros(2)}, {}, leads=True)
    (tmp_path / "step-5").mkdir()
    (tmp_path / "step-5" / "__0_0.distcp").write_bytes(b"half")
    saved = SavedState.find(tmp_path)
    assert saved is not None
    assert saved.path.name == "step-3"
    save_state(tmp_path, "step-5", {"a": torch.ones(2)}, {}, leads=True)
    again = SavedState.find(tmp_path)
    assert again is not None
    assert again.whole()["a"].tolist() == [1, 1]


def test_rows_written_by_two_ranks_are_read_by_any_number(tmp_path: Path) -> None:
    centres = torch.arange(10 * 4, dtype=torch.float32).view(10, 4)
    save({"centres@0": centres[:5], "centres@5": centres[5:]}, checkpoint_id=str(tmp_path / "step-1"), no_dist=True)
    saved = SavedState(tmp_path / "step-1")
    assert saved.sharded() == {"centres"}
    assert saved.whole() == {}
    for ranks in (1, 2, 3, 4, 10):
        bounds = torch.linspace(0, 10, ranks + 1).int().tolist()
        for start, stop in pairwise(bounds):
            torch.testing.assert_close(saved.rows("centres", range(start, stop)), centres[start:stop])
    with pytest.raises(StateError, match="lacks rows"):
        saved.rows("centres", range(8, 11))


def test_rows_are_saved_beside_what_is_whole(tmp_path: Path) -> None:
    save_state(tmp_path, "step-1", {"a": torch.zeros(1)}, {"centres": Rows(4, torch.ones(3, 2))}, leads=True)
    saved = SavedState.find(tmp_path)
    assert saved is not None
    assert set(saved.whole()) == {"a"}
    assert saved.rows("centres", range(5, 7)).shape == (2, 2)
