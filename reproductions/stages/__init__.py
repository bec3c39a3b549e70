"""The stages of the pipelines: settings and input folders in, one folder out."""
