"""The config file: its typed description, its checks, and mistakes in words."""
