"""Interpreters of programs: the reference, and fast ones for one program or a batch."""
