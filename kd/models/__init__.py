"""Networks: individual teachers, joint teachers, students; devices; weights in and out."""
