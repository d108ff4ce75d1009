"""Graphs of programs: kinds, liveness, the semantic key, value ranges, and roles of constants."""
