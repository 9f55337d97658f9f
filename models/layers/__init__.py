"""Parts that backbones and the detector share."""
