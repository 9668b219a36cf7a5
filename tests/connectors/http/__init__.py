"""Tests of the HTTP connector: a stand-in and job servers, each a real server."""
