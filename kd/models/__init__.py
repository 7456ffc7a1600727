"""Networks: individual teachers, joint teachers, students; their weights in and out."""
