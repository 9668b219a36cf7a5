"""Tests of the project itself: style, layers, exports, package, typing."""
