"""Test the engine: connectors, scheduler and store together."""
