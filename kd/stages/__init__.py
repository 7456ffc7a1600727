"""The stages: one small module a rule, and the registry that plan, resources and rules follow."""
