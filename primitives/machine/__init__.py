"""What a program computes: the reference interpreter, and fast ones for one program or many."""
