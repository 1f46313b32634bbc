"""What every other part stands on: files, randomness, threads, progress, checks, errors."""
