"""Where the shipped checkpoints lie."""

from pathlib import Path

RECOGNISER = Path(__file__).parent / "facemargin-s.safetensors"
DETECTOR = Path(__file__).parent / "facemargin-det.safetensors"
