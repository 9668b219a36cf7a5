"""Flyte's own connectors and tasks; needs the flyte package: ``make test-flyte``."""
