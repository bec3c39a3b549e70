"""Pictures from where they lie, to splits that a training reads."""
