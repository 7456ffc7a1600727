"""The stages: a small module for each rule, and the registry that plan, resources and rules follow."""
