"""The protocol of one execution as a model small enough to try every interleaving."""
