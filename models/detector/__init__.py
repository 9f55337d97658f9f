"""The anchor-free face detector: network, decoding of its maps, and finding faces in whole photos."""
