"""The public test kit is tested here; the tests of the engine use it themselves."""
