"""Files, random numbers, threads, progress, argument checks and errors, used by all other packages."""
