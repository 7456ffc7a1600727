"""What a plan will weigh, from shapes alone, before anything of it is made."""
