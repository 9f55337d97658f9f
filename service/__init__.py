"""Serves a trained checkpoint: a REST API, a gallery of known faces, and a page."""
