"""The pages of the docs site, and what generates the reference among them."""
