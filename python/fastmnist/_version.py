"""The version, alone, so that what lies deep need not import the package's face."""

__version__ = "0.1.0"
