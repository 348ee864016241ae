"""The modules that transforms put into models."""
