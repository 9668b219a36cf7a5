"""Tests of the built-in connectors, against the real thing."""
