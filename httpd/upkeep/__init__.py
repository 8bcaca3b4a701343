"""What is done with a store beside serving it: checking, repairing, taking in an older one."""
