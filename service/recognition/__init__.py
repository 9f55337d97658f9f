"""From the bytes of a photo to faces with embeddings: decoding, detection, alignment, inference, quality."""
