"""From the bytes of a photo to faces with embeddings: decoding, detection, alignment, batched inference, quality."""
