"""Who is alive: the launcher, the master and its workers, and the commands for them."""
