"""The Hydra config tree; a package so that it travels with every kind of install."""
