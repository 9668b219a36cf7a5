"""Flyte's protocol over real gRPC, and its package, in both directions."""
