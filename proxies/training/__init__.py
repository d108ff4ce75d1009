"""The training loop, for one program or for many side by side."""
