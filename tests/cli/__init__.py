"""Tests of the command ``orchestrator``."""
