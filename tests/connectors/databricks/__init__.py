"""Tests of the Databricks connector, against a stand-in, through the real SDK."""
