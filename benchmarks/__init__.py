"""Measurements of the engine beside its floor; README.md says what they mean."""
