"""Heads: from embeddings and class centres to logits."""
