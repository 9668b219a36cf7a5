"""Flyte, in both directions."""
