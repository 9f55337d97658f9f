"""Sub-commands of `facemargin` that act on a gallery."""
