"""How fast everything is, each way beside the others."""
