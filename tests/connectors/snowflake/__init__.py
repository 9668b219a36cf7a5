"""Tests of the Snowflake connector, through Snowflake's client."""
