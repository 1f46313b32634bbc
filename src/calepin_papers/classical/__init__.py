"""Classical dictionary learning: recovery of planted dictionaries."""
