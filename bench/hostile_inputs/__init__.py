"""Requests that wish the service ill: built from a seed and a number, so that each can be sent again."""
