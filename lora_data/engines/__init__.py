"""How map stages are run over many instances."""
