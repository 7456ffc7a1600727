"""From a config to what is to be built: artefacts, keys, stores that readers share, and what all of it weighs."""
