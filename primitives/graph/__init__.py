"""What a program's dataflow says: kinds, liveness, semantic key, states and roles."""
