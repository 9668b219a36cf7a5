"""Migrations: each leads to the schema that the code knows, whatever interrupts it."""
