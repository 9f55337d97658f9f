"""Backbones: (B, 3, 112, 112) normalised RGB -> (B, D) embeddings, not yet of unit length. One family a file."""
