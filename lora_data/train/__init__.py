"""The training half's data: settings so far; the dataset reads the shards that the offline half writes."""
