"""Measuring what was trained: verification, detection and calibration, next to peers in the same run."""
