"""Many faces at once: the portable format, archives of photos, other systems' embeddings, in and out."""
