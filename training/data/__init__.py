"""Readers, samplers and augmentation. Images travel as uint8 until they are on the training device."""
