"""The training loop, for one program or many side by side."""
