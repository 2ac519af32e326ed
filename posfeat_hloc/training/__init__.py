"""Training of the networks: data sources, losses and loops."""
