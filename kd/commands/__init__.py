"""Commands for people, about what lies in the results folder. Each gives the lines to print."""
