"""The strategy's networks: which there are, where their weights are, how they are loaded and run."""
