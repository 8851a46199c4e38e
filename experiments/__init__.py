"""One YAML per table or figure of the paper; a package so that it travels with every kind of install."""
