"""Text for people: tables and progress bars, in terminals and notebooks. Free of torch."""
