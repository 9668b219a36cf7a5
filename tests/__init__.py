"""Tests of the orchestrator; a package, so that helpers import each other."""
