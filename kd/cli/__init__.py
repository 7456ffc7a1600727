"""The commands of `python -m kd`, and what rules call around the stages: preflight, publishing, the page."""
