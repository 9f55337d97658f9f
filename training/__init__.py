"""Learns the networks of `models`, and measures them."""
