"""Heads: from embeddings and labels, by class centres and an objective, to the loss."""
