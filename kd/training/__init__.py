"""The one training loop, and what goes through it: teachers, joint teachers, students, baselines."""
