"""Hostile inputs leave a real server as it was; the full number is bench/hostile.py's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_500_hostile_inputs(repo_root: Path, tmp_path: Path, compiled: Path) -> None:
    output = tmp_path / "hostile.json"
    command = [sys.executable, repo_root / "bench" / "hostile.py", "--inputs", "500", "--seed", "5", "--json", output]
    environment = {**os.environ, "FACEMARGIN_CACHE_DIR": str(compiled)}

    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)

    assert output.exists(), ended.stderr
    document = json.loads(output.read_text())
    assert document["faults"] == []
    assert ended.returncode == 0, ended.stderr
    assert document["summary"]["inputs"] == 500
    # Every kind of input came, and most were refused for what they are.
    assert len(document["rows"]) >= 15
    assert document["summary"]["statuses"]["400"] > 100
