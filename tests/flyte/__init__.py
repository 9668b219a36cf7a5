"""Flyte's protocol over real gRPC, between processes."""
