"""Knowledge distillation from many datasets."""
