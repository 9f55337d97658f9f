"""Networks, geometry and the checkpoint: what training and service share, and the only thing they share."""
